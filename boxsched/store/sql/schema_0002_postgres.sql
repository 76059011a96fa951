-- Statements of the second schema for which SQLite cannot change an existing table. Locks are taken in the
-- order in which a leader of the first schema reads, because it may be running.

ALTER TABLE project ADD FOREIGN KEY (organization) REFERENCES organization (id);
ALTER TABLE worker ADD FOREIGN KEY (organization) REFERENCES organization (id);

CREATE FUNCTION leadership_began() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO leadership (shard, epoch, batch, node, began_at)
    VALUES (NEW.id, NEW.epoch, NEW.epoch_batch, NEW.node, extract(epoch FROM clock_timestamp()));
    RETURN NULL;
END
$$;

CREATE TRIGGER leadership_is_kept AFTER UPDATE OF epoch ON shard
FOR EACH ROW WHEN (NEW.epoch <> OLD.epoch) EXECUTE FUNCTION leadership_began();
