#!/bin/sh
# Trains on two machines; run it on both, with the same arguments but for the last:
#
#     two_machines.sh PARTS RUN WORKERS_PER_MACHINE FIRST_MACHINE:PORT OWN_ADDRESS [options of bnsgcn train]
#
#     start=$(python -m launch.recipes two_machines.sh)
#     sh "$start" parts/reddit runs/reddit 4 10.0.0.1:29500 10.0.0.1 --model sage      # on the first
#     sh "$start" parts/reddit runs/reddit 4 10.0.0.1:29500 10.0.0.2 --model sage      # on the second
#
# PARTS holds as many parts as there are workers in all. A worker reads its own part alone; RUN is on a
# file system that all machines see, as checkpoints are completed by the first worker for all.
# gloo takes the network device of the host name, often not the right one: GLOO_SOCKET_IFNAME names it
# (for nccl NCCL_SOCKET_IFNAME). A worker that dies is started again, up to three times, and all go on from
# the last checkpoint. Whoever reaches the ports of a launch can run code in it: see "Several machines" in the docs.
set -eu
if [ $# -lt 5 ]; then
    echo "usage: two_machines.sh PARTS RUN WORKERS_PER_MACHINE FIRST_MACHINE:PORT OWN_ADDRESS [options]" >&2
    exit 2
fi
parts=$1 run=$2 workers=$3 first=$4 own=$5
shift 5
device=$(ip -o addr show to "$own" 2>/dev/null | awk 'NR == 1 { print $2 }')
if [ -n "$device" ]; then
    export GLOO_SOCKET_IFNAME="${GLOO_SOCKET_IFNAME:-$device}"
    export NCCL_SOCKET_IFNAME="${NCCL_SOCKET_IFNAME:-$device}"
fi
host=0
if [ "$own" = "${first%:*}" ]; then host=1; fi
exec python -m launch.agent --nnodes 2 --nproc-per-node "$workers" --max-restarts 3 \
    --rdzv-backend c10d --rdzv-id "$(basename "$run")" --rdzv-endpoint "$first" \
    --rdzv-conf "is_host=$host" --local-addr "$own" \
    -m launch.train "$parts" --run-dir "$run" "$@"
