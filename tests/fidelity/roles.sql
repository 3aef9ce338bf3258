-- Roles that the database refers to. Roles belong to the whole server, so this may run again.
DO $$
DECLARE
  role record;
BEGIN
  PERFORM pg_advisory_xact_lock(4712);
  FOR role IN SELECT * FROM (VALUES
      ('fid "Owner"', 'NOLOGIN'), ('fid_reader', 'LOGIN'), ('fid writer', 'NOLOGIN CREATEDB'), ('fid_группа', 'NOLOGIN NOINHERIT'),
      ('fid_boss', 'SUPERUSER NOLOGIN')) AS roles(name, attributes)
  LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role.name) THEN
      EXECUTE format('CREATE ROLE %I %s', role.name, role.attributes);
    END IF;
  END LOOP;
  GRANT "fid_группа" TO "fid_reader";
END $$;
