#!/bin/sh
# What adnanh/webhook starts: posts to Slack if the health status changed; curl waits as long as Slack asks, and tries again.
# usage: hook.sh BEFORE AFTER ENTITY
[ "$1" = "$2" ] || exec curl --silent --fail --output /dev/null --max-time 60 --retry 10 --retry-all-errors \
    --header 'Content-Type: application/json' --data "{\"text\": \"*$3*: healthStatus $1 → $2\"}" "$SLACK_WEBHOOK_URL"
