#!/bin/sh
# Puts the sample videos of Debian's package opencv-doc into one folder and writes train.csv and val.csv beside them:
# pieces of one second, the first three quarters of each video for training, the last fifth for validation, a gap between.
#   pipelines/real_footage/unpack.sh [folder]          (default data/real_footage)
set -eu
folder=${1:-data/real_footage}
package=/usr/share/doc/opencv-doc
if [ ! -d "$package" ]; then
  echo "unpack.sh: the package opencv-doc is not installed; run: apt-get install opencv-doc" >&2
  exit 2
fi
mkdir -p "$folder"
for name in vtest.avi tree.avi Megamind.avi Megamind_bugy.avi; do
  cp "$package/examples/data/$name" "$folder/$name"
done
for name in box.mp4 cup.mp4; do
  gunzip -c "$package/opencv4/html/$name.gz" >"$folder/$name"
done

# file, label, seconds
videos="vtest.avi street 79
tree.avi tree 29
Megamind.avi film 11
Megamind_bugy.avi film 9
box.mp4 box 15
cup.mp4 cup 8"
for list in train val; do
  echo "$videos" | awk -v list="$list" '
    BEGIN { print "path,label,start,end" }
    {
      # pieces overlap by half within a block, never across the gap
      last = list == "train" ? 0.75 * $3 : $3
      for (start = list == "train" ? 0 : 0.8 * $3; start + 1 <= last; start += 0.5)
        printf "%s,%s,%.3f,%.3f\n", $1, $2, start, start + 1
    }' >"$folder/$list.csv"
  echo "$folder/$list.csv: $(($(wc -l <"$folder/$list.csv") - 1)) pieces"
done
