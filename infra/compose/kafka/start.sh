#!/bin/sh
# Formats the storage of a new volume with the users that may log in, and starts the broker. The
# image's own start knows no SCRAM users.
set -eu
properties=$1
cluster=$(cat /run/secrets/kafka_cluster)
set --
while IFS= read -r user; do
    set -- "$@" --add-scram "$user"
done < /run/secrets/kafka_users
/opt/kafka/bin/kafka-storage.sh format --ignore-formatted \
    --cluster-id "$cluster" --config "$properties" "$@"
exec /opt/kafka/bin/kafka-server-start.sh "$properties" \
    --override "advertised.listeners=SASL_SSL://$ADVERTISED"
