# S3 servers to stand behind snapgate and beside it, built from their Go modules:
# versitygw (fast, honours conditions), MinIO (the one people run), rclone (ignores If-Match and If-None-Match).

go_tool() { # go_tool FOLDER MODULE@VERSION
  GOBIN=$1 GOFLAGS=-modcacherw retry nice -n 10 go install "$2"
}

install_go() {
  local name module
  while read -r name module; do
    [ -x "$CACHE/bin/$name" ] && [ "$(cat "$CACHE/bin/$name.from" 2>/dev/null)" = "$module" ] && continue
    place "go-$name" go_tool "$module"
    mv -f "$CACHE/go-$name/$name" "$CACHE/bin/$name"; echo "$module" >"$CACHE/bin/$name.from"; rm -rf "$CACHE/go-$name"
  done <<'LIST'
versitygw github.com/versity/versitygw/cmd/versitygw@v1.8.0
minio     github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c
rclone    github.com/rclone/rclone@v1.75.1
LIST
}
