// The servers of all projects: what is live, since when, from which build, what waits, and pauses.

import { get } from "./api.js";
import { Asking } from "./asking.js";
import { DeployDialog } from "./deploy-dialog.js";
import { ResumeDialog, resumeButton } from "./resume.js";
import { onlyWith } from "./rights.js";
import { Things, agoOf, badge, button, linkTo, markOf, nothing, outside, timeOf } from "./things.js";
import { make, plain } from "./text.js";
import { stateOf, titleOf } from "./words.js";

const AT_ONCE = 4; // requests: a browser has six connections
const WAITING_SHOWN = 5;
const COMMIT_CHARACTERS = 8;

export class ServersView {
  changesByItself = false;
  #asking;
  #dialog;
  #resume;
  #list = make("div", "projects");
  #things = new Things(this.#list, (one) => this.#project(one));
  #empty = nothing("No project has servers. Give one `servers`, and deploy to them.");
  #known = new Map(); // by project: its servers
  #old = null; // the projects that have changed; null: all

  constructor(place, on) {
    this.#asking = new Asking({ ...on, onChanged: () => { this.forget(); on.onChanged(); } });
    this.#dialog = new DeployDialog(this.#asking, on);
    this.#resume = new ResumeDialog(this.#asking);
    this.#empty.hidden = true;
    place.append(this.#list, this.#empty);
  }

  /** All data may be outdated. */
  forget() {
    this.#old = null;
  }

  changedBy(event) {
    if (event.type.startsWith("pause.") || event.type.startsWith("project.")) this.#old = null;
    else if (event.type.startsWith("workload.") && event.kind === "deploy") this.#old?.add(event.project);
    else return false;
    return true;
  }

  async load() {
    const old = this.#old;
    this.#old = new Set();
    try {
      const { body } = await get("/projects");
      const names = body.projects.filter(({ servers }) => Object.keys(servers).length).map(({ name }) => name);
      const asked = names.filter((name) => old === null || old.has(name) || !this.#known.has(name));
      for (const name of this.#known.keys()) if (!names.includes(name)) this.#known.delete(name);
      for (let at = 0; at < asked.length; at += AT_ONCE) {
        await Promise.all(asked.slice(at, at + AT_ONCE).map((name) => this.#ask(name)));
      }
      const shown = names.filter((name) => this.#known.has(name));
      this.#things.show(shown.map((name) => [name, { name, servers: this.#known.get(name) }]));
      this.#list.hidden = shown.length === 0;
      this.#empty.hidden = shown.length > 0;
    } catch (error) {
      this.#old = null;
      throw error;
    }
  }

  async #ask(name) {
    try {
      const { body } = await get(`/projects/${encodeURIComponent(name)}/servers`);
      this.#known.set(name, body.servers);
    } catch (error) {
      if (error.status !== 404) throw error;
      this.#known.delete(name); // deleted in the meantime
    }
  }

  #project({ name, servers }) {
    const list = make("ul", "things", ...servers.map((server) => this.#server(name, server)));
    const title = make("h2", "", outside(name));
    return make("section", "project-part", title, list);
  }

  #server(project, server) {
    const main = make("div", "thing-main", title(server), live(server));
    const { last, waiting } = server;
    const pauses = server.pauses ?? [server.paused].filter(Boolean); // an older node names one
    if (last && last.id !== server.live?.id) main.append(latest(last));
    if (waiting.length) main.append(waits(waiting));
    if (server.problem) main.append(make("p", "thing-note", make("strong", "", "No automatic deploys"), `: ${server.problem}`));
    main.append(...pauses.map((pause) => pausedBy(pause, this.#resume)));
    const deploy = onlyWith("deploy", button("Deploy …", "deploy", () => this.#dialog.ask(project, server)));
    deploy.setAttribute("aria-label", plain(`Deploy to ${server.name} of ${project}`));
    const node = make("li", "thing", markOf(pauses.length ? "blocked" : server.live ? "passed" : "upcoming"), main, deploy);
    node.dataset.key = server.name;
    return node;
  }
}

function title(server) {
  const node = make("h3", "thing-name", outside(server.name));
  if (server.strategy === "automatic") {
    const follows = badge("automatic");
    if (server.branch) follows.title = plain(`each passed build of ${server.branch}`);
    node.append(" ", follows);
  }
  if (server.guard) node.append(" ", badge("guarded"));
  return node;
}

function live({ live: deploy, build_number: number }) {
  if (!deploy) return make("p", "thing-what", "nothing is live yet");
  const what = make("p", "thing-what", "live: ", linkTo(deploy.id, titleOf(deploy)), " ", make("span", "number", `#${deploy.number}`));
  return make("div", "", what, facts(deploy, number));
}

function facts(deploy, number) {
  const node = make("p", "thing-facts", make("span", "", "since ", timeOf(deploy.finished_at), ", ", agoOf(deploy.finished_at)));
  if (deploy.build) node.append(make("span", "", "build ", linkTo(deploy.build, number ? `#${number}` : deploy.build)));
  if (deploy.branch) node.append(outside(deploy.branch, "code"));
  if (deploy.commit) {
    const commit = outside(deploy.commit.slice(0, COMMIT_CHARACTERS), "code");
    commit.title = deploy.commit;
    node.append(commit);
  }
  if (deploy.automatic) node.append(make("span", "", "deployed automatically"));
  else if (deploy.submitted_by) node.append(make("span", "", "deployed by ", outside(deploy.submitted_by)));
  if (deploy.author) node.append(make("span", "", "author ", outside(deploy.author)));
  if (deploy.rollback) node.append(badge("rollback"));
  return node;
}

/** The deploy that began last, if it is not the live one. */
function latest(deploy) {
  const state = stateOf(deploy);
  const node = make("p", "thing-what", markOf(state), `${state}: `, linkTo(deploy.id, titleOf(deploy)), " ",
    make("span", "number", `#${deploy.number}`));
  node.dataset.mark = state;
  return node;
}

function waits(waiting) {
  const shown = waiting.slice(0, WAITING_SHOWN).map((deploy) => make("li", "", linkTo(deploy.id, titleOf(deploy)),
    " ", make("span", "number", `#${deploy.number}`)));
  const more = waiting.length - shown.length;
  if (more > 0) shown.push(make("li", "", `and ${more} more`));
  return make("div", "thing-waiting", make("p", "thing-what", "waiting:"), make("ul", "", ...shown));
}

function pausedBy(pause, resume) {
  const until = pause.until ? make("span", "", "until ", timeOf(pause.until)) : make("span", "", "until it is resumed");
  const said = make("p", "thing-note", make("strong", "", whatIsPaused(pause)), ": ", outside(pause.note), " ",
    make("span", "thing-by", "(", outside(pause.name), ", by ", outside(pause.by), ", ", until, ")"));
  const node = make("div", "thing-pause", said, resumeButton(pause, resume));
  node.dataset.key = pause.name;
  return node;
}

/** A pause may cover more than the server; "Resume" then also affects the rest. */
function whatIsPaused(pause) {
  const what = pause.automatic ? "Automatic deploys paused" : "Paused";
  if (!pause.project) return `${what} everywhere`;
  return pause.server ? what : `${what} in the whole project`;
}
