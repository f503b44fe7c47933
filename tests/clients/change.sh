# What a user does in a container: adds, changes, deletes, renames, replaces. Run with -eu in the root of a
# mounted tree; needs GNU coreutils, attr and libcap2-bin of the host. Leaves the names that story.rs checks.

# Add: a small tree with everything that a layer can hold.
mkdir -p opt/new/deep/er
echo 'hello' >opt/new/hello
: >opt/new/empty
head -c 3000000 /dev/urandom >opt/new/random
truncate -s 16M opt/new/sparse
printf 'middle' | dd of=opt/new/sparse bs=1 seek=5000000 conv=notrunc status=none
printf 'x' >opt/new/deep/er/x
ln -s ../hello opt/new/deep/link
ln -s /nowhere opt/new/dangling
ln opt/new/hello opt/new/hello-again
mkfifo opt/new/fifo
mknod opt/new/null c 1 3
mknod opt/new/disk b 7 200
echo 'umlaut' >'opt/new/Füße und ☃'
echo 'bytes' >"opt/new/$(printf 'not-utf8-\377\376')"
echo 'long' >"opt/new/$(printf 'n%.0s' $(seq 1 255))"
long=opt/new/deep
for part in a b c d; do long=$long/$(printf "$part%.0s" $(seq 1 60)); done
mkdir -p "$long" && echo 'far' >"$long/file-with-a-path-too-long-for-the-old-header"
setfattr -n user.note -v 'some text' opt/new/hello
setfattr -n user.binary -v 0x00ff0a0d opt/new/empty
setfattr -n user.on-dir -v d opt/new/deep
cp etc/passwd opt/new/capable && setcap cap_net_bind_service=ep opt/new/capable
chown 1234:5678 opt/new/random
chown 4000000:4000001 opt/new/deep/er
install -m 4711 /dev/null opt/new/setuid
mkdir -m 1777 opt/new/sticky
mkdir -m 2755 opt/new/setgid
touch -d '2001-02-03 04:05:06.789 UTC' opt/new/random
touch -h -d '1965-01-01 00:00:00 UTC' opt/new/dangling

# Change: contents, owner, mode, times of what the image brought.
echo 'user:x:1000:1000::/:/bin/sh' >>etc/passwd
printf 'FIRST' | dd of=etc/group bs=1 conv=notrunc status=none
chmod 600 etc/group
chown 1000:1000 root
touch -d '2011-11-11 11:11:11 UTC' root
touch -d '2012-12-12 12:12:12 UTC' "$CHANGE_TOUCH"
setfattr -n user.changed -v yes "$CHANGE_TOUCH"
: >"$CHANGE_TRUNCATE"

# Delete: a file, a tree.
rm "$CHANGE_DELETE_FILE"
rm -r "$CHANGE_DELETE_DIR"

# Rename: a file, a directory of the image, one over another.
mv "$CHANGE_RENAME_FILE" "$CHANGE_RENAME_FILE.moved"
mv "$CHANGE_RENAME_DIR" "$CHANGE_RENAME_DIR.moved"
echo 'inside' >"$CHANGE_RENAME_DIR.moved/added-after-the-move"
echo 'new contents' >opt/replacement
mv opt/replacement "$CHANGE_RENAME_OVER"

# Replace: a directory by another of the same name, a directory by a file, a file by a directory.
rm -r "$CHANGE_REPLACE_DIR"
mkdir "$CHANGE_REPLACE_DIR"
echo 'only me' >"$CHANGE_REPLACE_DIR/only"
rm -r "$CHANGE_DIR_TO_FILE"
echo 'a file now' >"$CHANGE_DIR_TO_FILE"
rm "$CHANGE_FILE_TO_DIR"
mkdir "$CHANGE_FILE_TO_DIR"
echo 'below' >"$CHANGE_FILE_TO_DIR/below"

# Link: another name for a file of the image.
ln "$CHANGE_LINK" opt/linked

# Come and go: leaves no trace.
mkdir opt/brief && echo x >opt/brief/x && rm -r opt/brief
