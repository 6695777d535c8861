#!/usr/bin/env bash
# The tests of the product by its front door once more, each server as the node of a cluster. Left out is
# what is about the files of the single shape, and what runs in a cluster anyway.
set -euo pipefail
cd "$(dirname "$0")/.."
skip=(
  alerts::                                           # each in the shape that its fault needs
  chaos::                                            # the same, and harms its own servers
  cluster::                                          # is one already
  migrate::                                          # begins with a folder
  operate::secrets_are_made_kept_and_reused          # a cluster makes none
  operate::a_second_server_on_the_same_folder        # there is no folder
  promises::disk_faults::                            # its disk
  promises::durable::promise_1_durable_before_2xx_power_cut
  promises::bounded::promise_3_nothing_unbounded     # waits for the users' files to follow
  search::a_kill_in_the_middle_of_indexing           # the file of the index
  search::an_index_may_be_deleted_and_damaged
  search::a_message_is_found_as_it_is_now            # looks into messages.db
  search::on_a_full_disk
  described::examples::                              # its services_list shows the quick start's
  console::records::the_log_is_paged_and_verified    # harms control.db
)
arguments=()
for name in "${skip[@]}"; do arguments+=(--skip "$name"); done
TEST_SHAPE=cluster cargo test -p hub --locked --test it -- "${arguments[@]}" "$@"
