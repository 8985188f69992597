#!/usr/bin/env bash
# Makes stand-in images, from Debian packages and a Keycloak zip, for machines
# that have no image registry. They carry the official names so that a
# compose.yaml or a Dockerfile written for the official images runs unchanged:
#   debian:trixie-slim  python:3.13-slim  postgres:17.11  eclipse-mosquitto:2.0.22
#   quay.io/keycloak/keycloak:$KC_VERSION
# For verification only: they imitate the official images' entry points, users,
# paths and environment, no more.
#   make-standins.sh [debian python postgres mosquitto keycloak ...]   (default: all)
# Needs: root, a running Docker engine, debootstrap, unzip, the Keycloak zip (scripts/bootstrap has one in its cache).
# scripts/with-docker-standins provides all that.
set -euo pipefail
KC_VERSION=${KC_VERSION:-26.7.3}
KC_ZIP=${KC_ZIP:-${MDM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/device-mdm}/keycloak-$KC_VERSION.zip}
[ -e "$KC_ZIP" ] || { echo "no Keycloak zip at $KC_ZIP: run scripts/bootstrap" >&2; exit 1; }
MIRROR=${MIRROR:-$(apt-get indextargets --format "\$(REPO_URI)" "Created-By: Packages" | head -1)}
SUITE=${SUITE:-trixie}
HOST_CA=${HOST_CA:-/etc/ssl/certs/ca-certificates.crt}
WORK=$(mktemp -d "${TMPDIR:-/tmp}/standins.XXXXXX")
trap 'rm -rf "$WORK"' EXIT  # background jobs are subshells: bash resets this trap there
export DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-1}
NET=${BUILD_NET:-host}        # network of the image builds

step() { printf '== %s (%ss)\n' "$1" "$SECONDS"; }
have() { docker image inspect "$1" >/dev/null 2>&1; }
build() { # build TAG DIR
  docker build -q --network "$NET" -t "$1" "$2" >/dev/null; step "$1"; }

make_debian() {
  debootstrap --variant=minbase --include=ca-certificates \
    "$SUITE" "$WORK/root" "$MIRROR" >"$WORK/debootstrap.log" 2>&1 ||
    { tail -20 "$WORK/debootstrap.log" >&2; exit 1; }
  rm -rf "$WORK"/root/var/cache/apt/archives/*.deb "$WORK"/root/var/lib/apt/lists/* \
    "$WORK"/root/usr/share/{doc,man,locale}/* "$WORK"/root/var/log/*.log
  # as the official image: no docs, no services started by packages
  printf '%s\n' 'path-exclude /usr/share/doc/*' 'path-exclude /usr/share/man/*' \
    'path-exclude /usr/share/locale/*' >"$WORK/root/etc/dpkg/dpkg.cfg.d/docker"
  printf '#!/bin/sh\nexit 101\n' >"$WORK/root/usr/sbin/policy-rc.d"
  chmod +x "$WORK/root/usr/sbin/policy-rc.d"
  printf 'force-unsafe-io\n' >>"$WORK/root/etc/dpkg/dpkg.cfg.d/docker"
  # the host's CA bundle, for a host whose outgoing TLS is re-signed
  cp "$HOST_CA" "$WORK/root/etc/ssl/certs/ca-certificates.crt"
  mkdir -p "$WORK/root/usr/local/share/ca-certificates"
  cp /usr/local/share/ca-certificates/*.crt "$WORK/root/usr/local/share/ca-certificates/" 2>/dev/null || true
  tar -C "$WORK/root" -c . | docker import -c 'CMD ["bash"]' \
    -c 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt' - debian:$SUITE-slim >/dev/null
  docker tag debian:$SUITE-slim debian:$SUITE
  rm -rf "$WORK/root"; step debian:$SUITE-slim
}

make_python() {
  mkdir "$WORK/python"; cat >"$WORK/python/Dockerfile" <<'D'
FROM debian:trixie-slim
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
RUN apt-get update -q && apt-get install -qy --no-install-recommends python3 python3-pip python3-venv \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb \
 && rm -f /usr/lib/python3.13/EXTERNALLY-MANAGED \
 && ln -s /usr/bin/python3 /usr/local/bin/python && ln -s /usr/bin/python3 /usr/local/bin/python3 \
 && ln -s /usr/bin/python3 /usr/local/bin/python3.13 \
 && ln -s /usr/bin/pip /usr/local/bin/pip && ln -s /usr/bin/pip3 /usr/local/bin/pip3 \
 && mkdir -p /usr/local/lib/python3.13/dist-packages \
 && ln -s dist-packages /usr/local/lib/python3.13/site-packages \
 && printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >/etc/pip.conf
CMD ["python3"]
D
  build python:3.13-slim "$WORK/python"
  docker tag python:3.13-slim python:3.13-slim-$SUITE
}

make_postgres() {
  mkdir "$WORK/pg"; cat >"$WORK/pg/docker-entrypoint.sh" <<'S'
#!/usr/bin/env bash
# stand-in for the official image's entry point
set -Eeuo pipefail
from_file() { local f="$1_FILE"; if [ -n "${!f:-}" ]; then export "$1=$(<"${!f}")"; unset "$f"; fi; }
[ "${1:0:1}" = - ] && set -- postgres "$@"
if [ "$1" = postgres ]; then
  if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /var/run/postgresql
    chown -R postgres "$PGDATA" /var/run/postgresql; chmod 700 "$PGDATA"; chmod 3775 /var/run/postgresql
    exec setpriv --reuid postgres --regid postgres --init-groups "$0" "$@"
  fi
  for v in POSTGRES_PASSWORD POSTGRES_USER POSTGRES_DB POSTGRES_INITDB_ARGS; do from_file "$v"; done
  user=${POSTGRES_USER:-postgres} db=${POSTGRES_DB:-${POSTGRES_USER:-postgres}}
  if [ ! -s "$PGDATA/PG_VERSION" ]; then
    if [ -z "${POSTGRES_PASSWORD:-}" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
      echo 'Error: Database is uninitialized and superuser password is not specified.' >&2; exit 1
    fi
    eval 'initdb --username="$user" --pwfile=<(printf "%s\n" "${POSTGRES_PASSWORD:-}") '"${POSTGRES_INITDB_ARGS:-}"
    printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
    shift; export PGPASSWORD=${POSTGRES_PASSWORD:-} PGUSER=$user
    pg_ctl -D "$PGDATA" -o "$(printf '%q ' "$@" -c listen_addresses= -p "${PGPORT:-5432}")" -w start
    sql=(psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password)
    [ "$db" = postgres ] || printf 'CREATE DATABASE :"db";\n' | "${sql[@]}" -d postgres -v db="$db"
    for f in /docker-entrypoint-initdb.d/*; do
      case $f in
        *.sh) if [ -x "$f" ]; then echo "$0: running $f"; "$f"; else echo "$0: sourcing $f"; . "$f"; fi ;;
        *.sql) echo "$0: running $f"; "${sql[@]}" -d "$db" -f "$f" ;;
        *.sql.gz) echo "$0: running $f"; gunzip -c "$f" | "${sql[@]}" -d "$db" ;;
      esac
    done
    pg_ctl -D "$PGDATA" -m fast -w stop; unset PGPASSWORD PGUSER
    printf '\nPostgreSQL init process complete; ready for start up.\n\n'
    set -- postgres "$@"
  else
    printf '\nPostgreSQL Database directory appears to contain a database; Skipping initialization\n\n'
  fi
fi
exec "$@"
S
  chmod 755 "$WORK/pg/docker-entrypoint.sh"; cat >"$WORK/pg/Dockerfile" <<'D'
FROM debian:trixie-slim
RUN groupadd -r postgres --gid=999 && useradd -r -g postgres --uid=999 --home-dir=/var/lib/postgresql --shell=/bin/bash postgres \
 && install -d -o postgres -g postgres -m 1777 /var/lib/postgresql && mkdir /docker-entrypoint-initdb.d \
 && mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf \
 && apt-get update -q && apt-get install -qy --no-install-recommends -o Dpkg::Options::=--force-confold postgresql-17 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb \
 && sed -i "s/^#listen_addresses = .*/listen_addresses = '*'/" /usr/share/postgresql/17/postgresql.conf.sample \
 && install -d -o postgres -g postgres -m 3777 /var/run/postgresql \
 && install -d -o postgres -g postgres -m 1777 /var/lib/postgresql/data
ENV LANG=C.UTF-8 PG_MAJOR=17 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/17/bin PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
COPY docker-entrypoint.sh /usr/local/bin/
ENTRYPOINT ["docker-entrypoint.sh"]
STOPSIGNAL SIGINT
EXPOSE 5432
CMD ["postgres"]
D
  build postgres:17.11 "$WORK/pg"
}

make_mosquitto() {
  mkdir "$WORK/mq"; cat >"$WORK/mq/docker-entrypoint.sh" <<'S'
#!/bin/sh
set -e
if [ "$(id -u)" = 0 ]; then chown -R mosquitto:mosquitto /mosquitto 2>/dev/null || true; fi
exec "$@"
S
  chmod 755 "$WORK/mq/docker-entrypoint.sh"; cat >"$WORK/mq/Dockerfile" <<'D'
FROM debian:trixie-slim
RUN groupadd -r -g 1883 mosquitto && useradd -r -u 1883 -g mosquitto -d /var/empty -s /sbin/nologin mosquitto \
 && apt-get update -q && apt-get install -qy --no-install-recommends mosquitto mosquitto-clients \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /etc/mosquitto/conf.d /etc/mosquitto/mosquitto.conf \
 && mkdir -p /mosquitto/config /mosquitto/data /mosquitto/log \
 && ln -sf /usr/lib/*-linux-gnu/mosquitto_dynamic_security.so /usr/lib/mosquitto_dynamic_security.so \
 && echo '# stand-in: no listener line, so local-only mode' >/mosquitto/config/mosquitto.conf \
 && printf 'listener 1883\nallow_anonymous true\n' >/mosquitto-no-auth.conf \
 && chown -R mosquitto:mosquitto /mosquitto
VOLUME ["/mosquitto/data", "/mosquitto/log"]
COPY docker-entrypoint.sh /
EXPOSE 1883
ENTRYPOINT ["/docker-entrypoint.sh"]
CMD ["/usr/sbin/mosquitto", "-c", "/mosquitto/config/mosquitto.conf"]
D
  build eclipse-mosquitto:2.0.22 "$WORK/mq"
}

make_keycloak() { # /bin/sh is bash, as in the official image (UBI), and there is no curl
  mkdir "$WORK/kc"; unzip -q "$KC_ZIP" -d "$WORK/kc"
  mv "$WORK/kc/keycloak-$KC_VERSION" "$WORK/kc/keycloak"; rm -f "$WORK"/kc/keycloak/bin/*.bat
  mkdir -p "$WORK/kc/keycloak/data"
  chmod -R g+rwX "$WORK/kc/keycloak"
  cat >"$WORK/kc/Dockerfile" <<'D'
FROM debian:trixie-slim
RUN mkdir -p /usr/share/man/man1 && apt-get update -q && apt-get install -qy --no-install-recommends openjdk-21-jre-headless \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb \
 && ln -sf bash /bin/sh \
 && echo 'keycloak:x:1000:0:keycloak user:/opt/keycloak:/sbin/nologin' >>/etc/passwd
ENV LANG=C.UTF-8 KC_RUN_IN_CONTAINER=true
COPY --chown=1000:0 keycloak /opt/keycloak
USER 1000
# The official image is built at its first start with other options than its own; this is done here, once, to save time.
RUN JAVA_OPTS_APPEND="-XX:TieredStopAtLevel=1" /opt/keycloak/bin/kc.sh build \
  --db=postgres --health-enabled=true --metrics-enabled=true
EXPOSE 8080 8443 9000
ENTRYPOINT ["/opt/keycloak/bin/kc.sh"]
D
  build "quay.io/keycloak/keycloak:$KC_VERSION" "$WORK/kc"
}

[ $# -gt 0 ] || set -- debian python postgres mosquitto keycloak
case " $* " in *" debian "*) make_debian ;; esac   # the others stand on it
pids=()
for i in "$@"; do [ "$i" = debian ] || { "make_$i" & pids+=($!); }; done
for p in "${pids[@]}"; do wait "$p"; done
step done
docker images
