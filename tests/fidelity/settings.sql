-- Properties of the database itself. Run last, in the database.
SELECT format('ALTER DATABASE %1$I OWNER TO "fid ""Owner""";
ALTER DATABASE %1$I SET search_path TO shapes, "$user", "Sche ma''s", "with, comma";
ALTER DATABASE %1$I SET work_mem TO ''8MB'';
ALTER DATABASE %1$I SET default_transaction_read_only TO on;
ALTER DATABASE %1$I SET statement_timeout TO ''10min'';
ALTER DATABASE %1$I SET datestyle TO ''German, DMY'';
ALTER DATABASE %1$I SET "my.setting" TO ''it''''s, "so" \ x'';
ALTER DATABASE %1$I SET temp_tablespaces TO '''';
ALTER ROLE fid_reader IN DATABASE %1$I SET search_path TO '''';
ALTER ROLE "fid ""Owner""" IN DATABASE %1$I SET default_transaction_isolation TO ''serializable'';
COMMENT ON DATABASE %1$I IS E''a\n"comment" ''''\\'';
REVOKE ALL ON DATABASE %1$I FROM PUBLIC;
GRANT CONNECT ON DATABASE %1$I TO fid_reader WITH GRANT OPTION;
SET SESSION AUTHORIZATION fid_reader; GRANT CONNECT ON DATABASE %1$I TO "fid_группа"; RESET SESSION AUTHORIZATION;
GRANT TEMPORARY, CREATE ON DATABASE %1$I TO "fid writer";
ALTER DATABASE %1$I CONNECTION LIMIT 50', current_database()) AS statements \gset
:statements
;
