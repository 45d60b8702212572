-- One role and one database for each service, made when the volume is new; each owns its own and may not even connect to
-- another's. A service is never a superuser: the server's own is for the socket inside its container.

-- A statement that fails would be in the log, and these have passwords.
SET log_min_error_statement = panic;
REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;

\set password `cat /run/secrets/compute_svc_database_password`
CREATE ROLE compute_svc LOGIN PASSWORD :'password';
CREATE DATABASE compute_svc OWNER compute_svc;
REVOKE ALL ON DATABASE compute_svc FROM PUBLIC;

\set password `cat /run/secrets/disk_svc_database_password`
CREATE ROLE disk_svc LOGIN PASSWORD :'password';
CREATE DATABASE disk_svc OWNER disk_svc;
REVOKE ALL ON DATABASE disk_svc FROM PUBLIC;

\set password `cat /run/secrets/snapshot_svc_database_password`
CREATE ROLE snapshot_svc LOGIN PASSWORD :'password';
CREATE DATABASE snapshot_svc OWNER snapshot_svc;
REVOKE ALL ON DATABASE snapshot_svc FROM PUBLIC;
