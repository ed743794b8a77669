#!/usr/bin/env bash
# Train as the paper does: train.sh PREPARED OUT [KEY=VALUE]… (see README.md). PROTOCOL may name another one.
set -euo pipefail
prepared=$1 out=$2
shift 2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

pixit train --database "$prepared/database.yml" \
    --protocol "${PROTOCOL:-AMI-SDM.SpeakerDiarization.only_words}" \
    --config "${CONFIG:-$here/../../configs/pixit.yaml}" -o "$out" "$@"
