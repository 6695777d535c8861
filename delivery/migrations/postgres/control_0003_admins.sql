-- What keys are called, from where they may be used, and by what they were replaced.
ALTER TABLE control_service ADD COLUMN allowed_networks text NOT NULL DEFAULT '[]';  -- ["10.0.0.0/8"]
ALTER TABLE control_api_key ADD COLUMN name text NOT NULL DEFAULT '';
ALTER TABLE control_api_key ADD COLUMN allowed_networks text NOT NULL DEFAULT '[]';
ALTER TABLE control_api_key ADD COLUMN last_used_from text;
ALTER TABLE control_api_key ADD COLUMN replaced_by text COLLATE "C";
DROP TRIGGER control_revised ON control_api_key;
CREATE TRIGGER control_revised AFTER INSERT OR DELETE
    OR UPDATE OF id, service_id, secret_hash, expires_at, allowed_networks ON control_api_key
    FOR EACH STATEMENT EXECUTE FUNCTION control_revised();
