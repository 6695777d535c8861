#!/usr/bin/env bash
# Makes the golden frames the first corpus of a fuzz target. The first byte picks the codec.
set -euo pipefail
target=$1
side=${target%_frame}
cd "$(dirname "$0")/../protocol"
for file in "testdata/$side"/*; do
  case $file in
    *.json) codec='\0' ;;
    *) codec='\1' ;;
  esac
  { printf "$codec"; cat "$file"; } > "fuzz/corpus/$target/$(basename "$file")"
done
