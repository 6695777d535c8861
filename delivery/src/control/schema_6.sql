-- Version 6: what keys are called, from where they may be used, and by what they were replaced.
ALTER TABLE control_service ADD COLUMN allowed_networks TEXT NOT NULL DEFAULT '[]';  -- ["10.0.0.0/8"]
ALTER TABLE control_api_key ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE control_api_key ADD COLUMN allowed_networks TEXT NOT NULL DEFAULT '[]';
ALTER TABLE control_api_key ADD COLUMN last_used_from TEXT;
ALTER TABLE control_api_key ADD COLUMN replaced_by TEXT;
DROP TRIGGER key_updated;
CREATE TRIGGER key_updated
    AFTER UPDATE OF id, service_id, secret_hash, expires_at, allowed_networks ON control_api_key
    BEGIN UPDATE control_revision SET n = n + 1; END;
