-- What users prefer.
-- Counts the changes of preferences, for whoever makes one over another.
ALTER TABLE account_user ADD COLUMN preferences_version bigint NOT NULL DEFAULT 0;
-- The revision (account_revision) of the last change of preferences, locale or time zone; 0 for none.
ALTER TABLE account_user ADD COLUMN preferences_changed bigint NOT NULL DEFAULT 0;
-- Revisions count from 1.
UPDATE account_user SET preferences_changed = 1 WHERE locale <> '';
CREATE INDEX account_user_changed ON account_user (preferences_changed, tenant_id, user_id)
    WHERE preferences_changed > 0;
