# Part of every script of the packages that have a service: users, directories, systemd. `packaging/build` puts the names in.

# make_users FILE: what systemd-sysusers makes of it, also where there is none.
make_users() {
  if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers "$1"
    return
  fi
  sed -n 's|^u \([^ ]*\) - "\([^"]*\)" \([^ ]*\) \([^ ]*\)$|\1:\2:\3:\4|p' "$1" | while IFS=: read -r name description home shell; do
    getent passwd "$name" >/dev/null ||
      useradd --system --user-group --no-create-home --comment "$description" --home-dir "$home" --shell "$shell" "$name"
  done
}

# make_directories FILE: what systemd-tmpfiles makes of it, also where there is none.
make_directories() {
  if command -v systemd-tmpfiles >/dev/null; then
    systemd-tmpfiles --create "$1"
    return
  fi
  grep '^d ' "$1" | while read -r _ path mode owner group; do
    install -d -m "$mode" -o "$owner" -g "$group" "$path"
  done
}

# Whether systemd is what runs services here (sd_booted(3)): not in a chroot or most containers.
systemd_runs() { [ -d /run/systemd/system ]; }

# What runs already goes on with the new program; what does not is not started: it may not be set up yet. Nobody waits: the
# agent is ready with its first link, which can take as long as its control plane is away, and package systems wait for this.
take_up_units() {
  systemd_runs || return 0
  systemctl daemon-reload
  [ "$1" != upgrade ] || systemctl --no-block try-restart @SERVICES@
}

forget_units() {
  systemd_runs || return 0
  systemctl daemon-reload
}
