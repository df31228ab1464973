#!/bin/bash
# run.sh [NAME...]: plants one mistake at a time into a copy of the tree, builds, and runs the tests that must notice it; exit
# 0 when each was noticed, 1 when one survives, which is a hole in the tests. Not part of ctest: it takes minutes.
# run.sh --check only looks whether every mistake can still be planted, which takes no time and is part of ctest.
# MACE_MUTATION_JOBS limits the compiler's jobs; MACE_MUTATION_KEEP=1 keeps the copy and tells where it is.
#
# What lies in the broker's core is planted by sim/sim_bugs.c, what lies in the order of memory by the variants of spin/; here
# stands what those two do not see: the real host, libmace, the checks of shm.
#
# The table: name @ file @ sed expression @ targets to build @ tests that run (ctest -R). Printed are the tests that fail. An
# expression that changes nothing is an error: the code has moved on, and so must the table.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=$(cd "$here/../.." && pwd)

mutations() {
    cat <<'TABLE'
log_not_synced_posix@broker/host_posix.c@s/fdatasync(append->fd) < 0 ? -errno : 0/0/@mace-broker fault_disk_test mace_fault_shim unit_broker_host_io_test@^(fault/disk|unit/broker/host_io)$
log_not_synced_uring@broker/host_uring.c@s/io_uring_prep_fsync(sqe, .*);/io_uring_prep_nop(sqe);/@unit_broker_host_io_test@^unit/broker/host_io$
directory_not_synced@broker/host_files.c@s/result = fsync(fd) < 0 ? -errno : 0;/result = 0;/@unit_broker_host_files_test@^unit/broker/host_files$
file_not_synced@broker/host_files.c@s/while (fdatasync(file->fd) < 0)/while (false)/@unit_broker_host_files_test@^unit/broker/host_files$
short_write_is_whole@broker/host_append.c@s/append->left -= (size_t)write_result;/append->left = 0;/@mace-broker fault_disk_test mace_fault_shim unit_broker_host_io_test@^(fault/disk|unit/broker/host_io)$
ring_not_tried_smaller@broker/host_uring.c@s/i < URING_OPEN_TRIES/i < 1/@unit_broker_host_io_test@^unit/broker/host_io$
lock_not_taken@broker/lock.c@s/while (flock(fd, LOCK_EX . LOCK_NB) < 0)/while (fd < 0)/@mace-broker unit_broker_lock_test@^unit/broker/lock$
lock_outside_the_ring@broker/host_uring.c@s/error = io_uring_register_files(&io->ring, &directory_fd, 1);/error = directory_fd < 0;/@unit_broker_host_io_test mace-broker proc_broker_start_test@^(unit/broker/host_io|proc/broker_start)$
predecessor_not_checked@broker/wal_read.c@s/return record->previous_crc == walk->chain \&\&/return/@unit_broker_wal_read_test unit_broker_recovery_test@^unit/broker/(wal_read|recovery)$
record_crc_not_checked@broker/wal_read.c@s/return wal_record_crc(segment, offset, record) == record->crc ? size : 0;/return size;/@unit_broker_wal_read_test@^unit/broker/wal_read$
tail_cut_too_far@broker/wal_read.c@s/if (\([a-z_]*position_before(walk->at, proof)\)/if (false \&\& \1/@unit_broker_wal_read_test mace-broker fault_disk_test mace_fault_shim@^(unit/broker/wal_read|fault/disk)$
horizon_not_rechecked@shm/include/mshm/protocol.h@s/} while (AO_load(&store->horizon) > snapshot);/} while (0);/@unit_shm_fence_test unit_shm_protocol_test unit_shm_read_threads_test@^unit/shm/(fence|protocol|read_threads)$
snapshot_fence_missing@shm/include/mshm/protocol.h@/scan \*\/$/{/horizon store/s/mshm_full_fence();/;/}@unit_shm_fence_test unit_shm_protocol_test unit_shm_read_threads_test@^unit/shm/(fence|protocol|read_threads)$
bracket_fence_missing@shm/include/mshm/protocol.h@/frames_reclaim \*\//s/mshm_full_fence();/;/@unit_shm_fence_test unit_shm_protocol_test unit_shm_read_threads_test@^unit/shm/(fence|protocol|read_threads)$
revocation_not_looked_at@shm/include/mshm/protocol.h@s/int revoked = AO_load(&store->revoked) >= epoch;/int revoked = 0 * (int)AO_load(\&store->revoked) * (int)epoch;/@unit_shm_fence_test unit_shm_protocol_test unit_shm_read_threads_test@^unit/shm/(fence|protocol|read_threads)$
expiry_not_looked_at@shm/include/mshm/protocol.h@s/return AO_load(expired) >= snapshot;/return 0 * (int)AO_load(expired) * (int)snapshot;/@unit_shm_protocol_test mace-broker fault_client_test@^(unit/shm/protocol|fault/client)$
ring_double_fetch@shm/ring.c@s/\*request = copy;/*request = copy; request->arena_size = AO_load(\&shared->arena_size);/@unit_shm_ring_test@^unit/shm/ring$
request_not_checked@shm/ring.c@s/ || !request_fits(&copy, lane, consumer->arena_size)/ || (0 \&\& !request_fits(\&copy, lane, consumer->arena_size))/@unit_shm_ring_test@^unit/shm/ring$
store_not_sealed@shm/segment.c@s/seals . F_SEAL_FUTURE_WRITE : seals/seals : seals/@unit_shm_segment_test mace-broker proc_broker_attach_test@^(unit/shm/segment|proc/broker_attach)$
session_may_shrink@shm/segment.c@s/int seals = F_SEAL_SHRINK . /int seals = /@unit_shm_segment_test@^unit/shm/segment$
wake_is_private@shm/wait.c@s/FUTEX_WAKE,/FUTEX_WAKE | FUTEX_PRIVATE_FLAG,/@unit_shm_protocol_test@^unit/shm/protocol$
fork_not_noticed@libmace/mlib.h@s/return AO_load(db->fork_page) == 0;/return AO_load(db->fork_page) == 2;/@mace-broker fault_client_test@^fault/client$
mapping_forked@shm/segment.c@s/MADV_DONTFORK/MADV_NORMAL/@unit_shm_segment_test mace-broker fault_client_test proc_library_test@^(unit/shm/segment|fault/client|proc/library)$
section_not_kept@libmace/section.c@s/if (AO_load(&inside) != 0)/if (false \&\& AO_load(\&inside) != 0)/@mace-broker fault_reentrance_test@^fault/reentrance$
cancelled_in_section@libmace/section.c@s/PTHREAD_CANCEL_DISABLE/PTHREAD_CANCEL_ENABLE/@mace-broker fault_reentrance_test@^fault/reentrance$
liveness_not_looked_at@shm/include/mshm/store.h@s/return (AO_int_load_acquire(&store->liveness) & MSHM_LIVENESS_GONE_BIT) != 0;/return AO_int_load_acquire(\&store->liveness) == 77;/@mace-broker proc_txn_test fault_broker_test mace_fault_shim@^(proc/txn|fault/broker)$
close_outside_a_section@libmace/database.c@s/if (mlib_section_enter(db) != MACE_OK)$/if (false)/@mace-broker fault_reentrance_test@^fault/reentrance$
path_not_resolved@libmace/database.c@s/    \*out = realpath(path, NULL);/    *out = strdup(path);/@mace-broker proc_interface_test@^proc/interface$
read_only_may_write@libmace/txn.c@s/if (db->options.read_only != 0)/if (db->options.read_only > 1)/@mace-broker proc_interface_test@^proc/interface$
known_of_another_record@broker/pages_known.c@s/kept->location != location/kept->location == 0/@unit_broker_pager_test@^unit/broker/pager$
chain_never_rewritten@broker/checkpoint.c@s/checkpoint->sealed || chained_due(core))/checkpoint->sealed || (0 \&\& chained_due(core)))/@unit_broker_checkpoint_test@^unit/broker/checkpoint$
chain_rewritten_however_often@broker/pages.c@s,pages->installed / CHAINED_READS,pages->installed * 1000,@unit_broker_checkpoint_test@^unit/broker/checkpoint$
rest_of_a_read_forgotten@broker/host_files.c@s/read->result = rest < 0 ? rest : (int64_t)done + rest;/read->result = rest < 0 ? rest : (int64_t)done;/@unit_broker_host_many_test@^unit/broker/host_many$
cached_by_its_first_page@broker/host_many.c@s/for (uint64_t i = 0; i < pages; i++)/for (uint64_t i = 0; i < 1; i++)/@unit_broker_host_many_test@^unit/broker/host_many$
drop_not_looked_at@libmace/bucket.c@s/if (dropped != 0 \&\&/if (dropped == 1 \&\&/@mace-broker proc_interface_test@^proc/interface$
bucket_of_another@libmace/txn.c@s/if (bucket->mace != txn->mace)/if (bucket == NULL)/@mace-broker proc_interface_test@^proc/interface$
committed_told_unknown@libmace/commit.c@s/case MSHM_OUTCOME_COMMITTED:/case 77:/@mace-broker proc_txn_test@^proc/txn$
answer_of_another@libmace/publish.c@s/if (kept->sequence == sequence) {/if (kept->answered) {/@unit_libmace_publish_test@^unit/libmace/publish$
snapshot_goes_back@libmace/txn.c@s/else if (snapshot < AO_load(&txn->mace->newest_seen))/else if (false)/@mace-broker fault_broker_test mace_fault_shim@^fault/broker$
own_writes_unseen@libmace/txn.h@s/if (txn->writes.count == 0)/if (txn->writes.count != 7777)/@unit_libmace_get_test mace-broker proc_txn_test@^(unit/libmace/get|proc/txn)$
mapping_private@broker/host_files.c@s/MAP_SHARED | MAP_POPULATE/MAP_PRIVATE | MAP_POPULATE/@mace-broker fault_memory_test@^fault/memory$
age_by_the_wall_clock@broker/host_clock.h@s/CLOCK_MONOTONIC/CLOCK_REALTIME/@mace-broker fault_age_test mace_fault_shim@^fault/age$
expired_may_commit@broker/commit.c@s/if (session->watch\[request->lane\].expired >= request->snapshot)/if (session->watch[request->lane].expired == 1)/@mace-broker fault_age_test mace_fault_shim@^fault/age$
stall_not_told@broker/host_stall.c@s/stall->stalled++;/(void)0;/@unit_broker_host_stall_test@^unit/broker/host_stall$
peer_not_checked@broker/connection.c@s/if (!peer_allowed(&server->policy, &connection->peer))/if (false)/@mace-broker proc_broker_attach_test@^proc/broker_attach$
layout_not_checked@broker/connection.c@s/hello->layout_hash == mshm_layout_hash() \&\& hello->features == 0/true/@mace-broker proc_broker_attach_test@^proc/broker_attach$
broker_dumpable@broker/main.c@s/PR_SET_DUMPABLE, 0/PR_SET_DUMPABLE, 1/@mace-broker proc_broker_attach_test@^proc/broker_attach$
malformed_counts_as_dead@broker/connection.c@s/core_session_cut(connection->server->core, connection->session);/(void)0;/@mace-broker proc_broker_attach_test@^proc/broker_attach$
TABLE
}

# Those of the table that were asked for: all when none were named.
selected() {
    local name rest
    while IFS='@' read -r name rest; do
        if [ "$#" -eq 0 ] || [[ " $* " == *" $name "* ]]; then
            printf '%s@%s\n' "$name" "$rest"
        fi
    done < <(mutations)
}

table_check() {
    local name file expression stale=0
    while IFS='@' read -r name file expression _; do
        if [ ! -f "$source_dir/$file" ] || sed -e "$expression" "$source_dir/$file" | cmp -s - "$source_dir/$file"; then
            printf '%-28s STALE: the expression changes nothing in %s\n' "$name" "$file"
            stale=$((stale + 1))
        fi
    done < <(mutations)
    [ "$stale" -eq 0 ]
}

if [ "${1:-}" = --check ]; then
    table_check
    exit
fi

work=$(mktemp -d)
if [ -n "${MACE_MUTATION_KEEP:-}" ]; then
    echo "the copy stays in $work"
else
    trap 'rm -rf "$work"' EXIT
fi
jobs=${MACE_MUTATION_JOBS:-$(nproc)}
patience=150 # seconds: several times what the tests take
mkdir "$work/tree" "$work/build"
(cd "$source_dir" && git ls-files -z --cached --others --exclude-standard | tar -c --null -T -) |
    tar -x -C "$work/tree" || exit 1
quiet="-Wno-error=unused-parameter -Wno-error=unused-variable" # what a mistake leaves unused is no reason to stop
quiet="$quiet -Wno-error=unused-function -Wno-error=unused-const-variable"
cmake -S "$work/tree" -B "$work/build" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS="$quiet" >"$work/log" 2>&1 || {
    cat "$work/log"
    exit 1
}

# tree_test TARGETS TESTS: builds and runs; 0 passed, 1 failed, 2 does not build, 3 no such test, 124 hangs. The rest is in
# the log.
tree_test() {
    local ended
    # shellcheck disable=SC2086
    make -C "$work/build" -j"$jobs" $1 >"$work/log" 2>&1 || return 2
    (cd "$work/build" && timeout "$patience" ctest -R "$2" --stop-on-failure --output-on-failure) >"$work/log" 2>&1
    ended=$?
    if grep -q 'No tests were found' "$work/log"; then
        return 3
    elif [ "$ended" -eq 0 ] || [ "$ended" -eq 124 ]; then
        return "$ended"
    fi
    return 1
}

# baseline_run TARGETS TESTS: a test that fails by itself notices nothing.
baselines=
baseline_run() {
    if [[ "$baselines" == *"<$1@$2>"* ]]; then
        return 0
    fi
    baselines="$baselines<$1@$2>"
    tree_test "$1" "$2" && return 0
    echo "without any mistake, $2 does not pass:"
    tail -n 30 "$work/log"
    return 1
}

# Plants one, builds, runs; prints a line. Status 0: noticed.
mutation_run() {
    local name=$1 file=$2 expression=$3 targets=$4 tests=$5 status=1
    baseline_run "$targets" "$tests" || return 1
    cp -p "$work/tree/$file" "$work/original"
    sed -i -e "$expression" "$work/tree/$file"
    if cmp -s "$work/original" "$work/tree/$file"; then
        printf '%-28s STALE: the expression changes nothing in %s\n' "$name" "$file"
        return 1
    fi
    tree_test "$targets" "$tests"
    case $? in
    0) printf '%-28s SURVIVES %s\n' "$name" "$tests" ;;
    2) printf '%-28s STALE: it does not compile: %s\n' "$name" "$(grep -m 1 -E 'error|\*\*\*' "$work/log")" ;;
    3) printf '%-28s STALE: there is no test %s\n' "$name" "$tests" ;;
    124)
        printf '%-28s noticed: it hangs in %s\n' "$name" "$(sed -n 's/^ *Start *[0-9]*: //p' "$work/log" | tail -n 1)"
        status=0
        ;;
    *)
        printf '%-28s noticed by %s\n' "$name" "$(sed -n 's/^\t *[0-9]* - \([^ ]*\) .*/\1/p' "$work/log" | tr '\n' ' ')"
        status=0
        ;;
    esac
    mv "$work/original" "$work/tree/$file"
    touch "$work/tree/$file"
    return "$status"
}

missed=0 count=0
while IFS='@' read -r name file expression targets tests; do
    count=$((count + 1))
    mutation_run "$name" "$file" "$expression" "$targets" "$tests" || missed=$((missed + 1))
done < <(selected "$@")
echo "$count mistakes planted, $missed not noticed"
[ "$missed" -eq 0 ] && [ "$count" -gt 0 ]
