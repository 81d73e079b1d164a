#!/bin/sh
# In a new database, last: Riverchief's login owns its database and administers nothing else. The server's administrator
# is `postgres`, who has no password: `docker compose exec postgres psql --username postgres`.
set -eu

psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set=owner="$POSTGRES_USER" <<'SQL'
CREATE ROLE postgres LOGIN SUPERUSER;
ALTER ROLE :"owner" NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
SQL
