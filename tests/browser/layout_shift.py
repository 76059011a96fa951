"""How much of a page has moved by itself."""

from playwright.sync_api import Page

MOST_SHIFT = 0.1

# The layout shift as Web Vitals counts it: the worst window of at most 5 s, without a pause of 1 s.
OBSERVE = """
window.shifts = [];
new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) {
        const nodes = entry.sources.map(({node}) => node?.id || node?.nodeName);
        window.shifts.push([entry.startTime, entry.value, nodes.join(" ")]);
    }
}).observe({ type: "layout-shift", buffered: true });
"""
WORST = """() => {
    let [worst, sum, first, last] = [0, 0, -Infinity, -Infinity];
    for (const [at, value] of window.shifts) {
        if (at - last > 1000 || at - first > 5000) [sum, first] = [0, at];
        [sum, last] = [sum + value, at];
        worst = Math.max(worst, sum);
    }
    return worst;
}"""
SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def layout_shift(page: Page) -> float:
    page.evaluate(SETTLED)
    return float(page.evaluate(WORST))
