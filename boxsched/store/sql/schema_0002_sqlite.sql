-- Statements of the second schema that are different in PostgreSQL.

CREATE TRIGGER leadership_is_kept AFTER UPDATE OF epoch ON shard WHEN NEW.epoch <> OLD.epoch
BEGIN
    INSERT INTO leadership (shard, epoch, batch, node, began_at)
    VALUES (NEW.id, NEW.epoch, NEW.epoch_batch, NEW.node,
            (julianday('now') - 2440587.5) * 86400.0);
END;
