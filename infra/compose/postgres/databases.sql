-- Run once, by PostgreSQL's image, on a new data folder: two databases and their owners. All else is
-- `python -m deployments.bootstrap`'s. psql reads the passwords, so that no statement's text has one.
\set ON_ERROR_STOP on
\set owner_password `cat /run/secrets/postgres_owner`
\set prefect_password `cat /run/secrets/postgres_prefect`

CREATE ROLE sluiceway_owner LOGIN CREATEROLE PASSWORD :'owner_password';
CREATE DATABASE sluiceway OWNER sluiceway_owner;
REVOKE ALL ON DATABASE sluiceway FROM PUBLIC;

CREATE ROLE prefect LOGIN PASSWORD :'prefect_password';
CREATE DATABASE prefect OWNER prefect;
REVOKE ALL ON DATABASE prefect FROM PUBLIC;
