#!/bin/sh
# Runs the broker, and tells it by SIGHUP when its certificate has been renewed: sessions go on.
certificate=/mosquitto/config/server.crt
/usr/sbin/mosquitto -c /mosquitto/config/mosquitto.conf &
broker=$!
trap 'kill -TERM "$broker"' TERM INT
(
  seen=$(cat "$certificate")
  while sleep 5; do
    now=$(cat "$certificate")
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
