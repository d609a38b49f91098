#!/bin/sh
# Makes what docker-compose.yml keeps secret, once: passwords of 128 random bits, and a certificate that is
# replaced by your own (docs/docker.md). Run by the service `secrets` at each `up`; what is there stays.
# `docker compose run --rm secrets show` prints who logs in with what.
set -eu
umask 077
cd /secrets

random() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

# make FILE COMMAND...: the output of the command as a file, whole or not at all.
make() {
  file=$1
  shift
  [ -s "$file" ] && return
  "$@" >"$file.new"
  mv "$file.new" "$file"
}

database_password() { if [ -n "${POSTGRES_PASSWORD:-}" ]; then printf %s "$POSTGRES_PASSWORD"; else random; fi; }

# As libpq reads it: a colon and a backslash in the password need one before them.
pgpass() { sed 's/[\\:]/\\&/g; s/^/*:*:*:search:/' all/database-password; echo; }

logins() {
  for who in owner reader; do
    printf '%s:%s\n' "$who" "$(openssl passwd -6 -stdin <all/$who-password)"
  done
}

certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=$CERTIFICATE_NAME" \
    -addext "subjectAltName=DNS:$CERTIFICATE_NAME,DNS:localhost,IP:127.0.0.1" -keyout proxy/tls.key 2>/dev/null
}

mkdir -p all database search proxy
make all/database-password database_password
make all/owner-password random
make all/reader-password random
make database/password cat all/database-password
make search/pgpass pgpass
make proxy/logins logins
make proxy/tls.crt certificate

# To each its own, and to nobody else: the folders are volumes of one container each.
chown -R postgres database
chown -R 1000:1000 search proxy
chmod -R u=rwX,go= all database search proxy

if [ "${1:-}" = show ]; then
  for who in owner reader database; do
    printf '%-9s %s\n' "$who" "$(cat all/$who-password)"
  done
fi
