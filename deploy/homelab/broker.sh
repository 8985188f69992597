#!/bin/sh
# Runs the broker, and tells it by SIGHUP when its certificate or the ACL file has been replaced: sessions go on.
replaced() { cat /mosquitto/config/server.crt /mosquitto/config/acl; }
/usr/sbin/mosquitto -c /mosquitto/config/mosquitto.conf &
broker=$!
trap 'kill -TERM "$broker"' TERM INT
(
  seen=$(replaced)
  while sleep 5; do
    now=$(replaced)
    [ "$now" = "$seen" ] || kill -HUP "$broker"
    seen=$now
  done
) &
wait "$broker"
status=$?
# A signal ends the waiting, and not yet the broker.
while kill -0 "$broker" 2>/dev/null; do
  wait "$broker"
  status=$?
done
exit "$status"
