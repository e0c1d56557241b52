#!/usr/bin/env bash
# Sets up what the tests and the demo need on a Debian machine:
#
#   - checks Rust, and installs a C linker for it if that is missing and this is root;
#   - puts Erlang/OTP 25, 27 and 29, each with its Elixir, side by side into
#     ${FLYHOT_OTP_PREFIX:-target/otp}/otp-N, with ready commands in otp-N/bin. No root needed;
#   - puts moto, the S3 server of the tests, into ${FLYHOT_OTP_PREFIX:-target/otp}/moto, a virtual environment of Python with what
#     tests/moto/requirements.txt pins.
#
# The packages come from the Debian release that ships each version, checked by apt's signatures. otp-N.lock pins
# them: a version that the mirror still has must have the sum written there; where the mirror has moved on, its
# present packages are taken if they are of the same OTP, and one line says so. Each set keeps its own C library:
# its programs name their own loader and library path, so the paths are baked in; after moving it, set up again.
#
#   FLYHOT_OTP_PREFIX     where to put them, or where they are already
#   FLYHOT_DEBIAN_MIRROR  the Debian mirror to use instead of the one that this machine's apt uses
set -euo pipefail
export LC_ALL=C

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
CHECKOUT=$(cd "$HERE/../.." && pwd -P)
STAGE=
trap '[[ -z $STAGE ]] || rm -rf "$STAGE"' EXIT

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

suite_of() { # OTP version -> the Debian release that ships it
  case $1 in 25) echo bookworm ;; 27) echo trixie ;; 29) echo forky ;; esac
}

check_rust() {
  local wanted have
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$CHECKOUT/Cargo.toml")
  command -v cargo >/dev/null ||
    die "Rust is missing: install Rust $wanted or later with rustup (https://rustup.rs), then try again."
  have=$(cargo --version | awk '{print $2}')
  [[ $(printf '%s\n%s\n' "$wanted" "$have" | sort -V | head -n1) == "$wanted" ]] ||
    die "Rust $have is too old, $wanted is needed: run 'rustup update stable', then try again."
}

check_linker() {
  command -v cc >/dev/null && return
  command -v apt-get >/dev/null || die "No C linker (cc) and no apt: install gcc, then try again."
  [[ $(id -u) == 0 ]] || die "No C linker (cc), and you are not root: run 'sudo apt-get install gcc libc6-dev', then try again."
  say "installing gcc, which Rust needs for linking"
  { apt-get -qq update && apt-get -qq install -y gcc libc6-dev >/dev/null; } ||
    die "apt could not install gcc and libc6-dev: install them, then try again."
}

set_up_moto() {
  local final=$PREFIX/moto pins=$CHECKOUT/tests/moto/requirements.txt
  if [[ -x $final/bin/moto_server ]] && cmp -s "$pins" "$final/requirements.txt"; then return; fi
  if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
    [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null ||
      die "Python's venv is missing: run 'sudo apt-get install python3-venv', then try again."
    say "installing python3-venv, which the S3 server of the tests needs"
    { apt-get -qq update && apt-get -qq install -y python3-venv >/dev/null; } ||
      die "apt could not install python3-venv: install it, then try again."
  fi
  say "moto: fetching $(grep -vc '^#' "$pins") packages"
  # Its programs name their own place: it is made where it stays, and counts once the pins lie in it.
  rm -rf "$final"
  python3 -m venv "$final" && "$final/bin/pip" install -q --disable-pip-version-check --no-deps -r "$pins" ||
    die "moto could not be installed: check the network, then try again."
  cp "$pins" "$final/requirements.txt"
  say "moto: ready"
}

works() { # $1 = version: erl and elixir of that version are there and run
  local bin=$PREFIX/otp-$1/bin
  [[ -x $bin/erl && -x $bin/mix ]] &&
    [[ $("$bin/erl" -noshell -eval 'io:put_chars(erlang:system_info(otp_release)), halt().' 2>/dev/null) == "$1" ]] &&
    "$bin/elixir" -e 'IO.write(Base.encode16(:crypto.hash(:md5, "")))' >/dev/null 2>&1
}

mirror() {
  local site
  if [[ -n ${FLYHOT_DEBIAN_MIRROR:-} ]]; then echo "${FLYHOT_DEBIAN_MIRROR%/}"; return; fi
  # Debian's own archive has its release file signed by origin Debian; other sources of this machine have not.
  # shellcheck disable=SC2016
  site=$(apt-get indextargets --format '$(SITE) $(ORIGIN) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
         awk '$2 == "Debian" && $3 == "main" {print $1; exit}')
  if [[ -z $site ]]; then
    # Never updated, as in a fresh container: then by name.
    # shellcheck disable=SC2016
    site=$(apt-get indextargets --format '$(SITE) $(COMPONENT)' 2>/dev/null |
           awk '$1 ~ /\/debian\/?$/ && $2 == "main" {print $1; exit}')
  fi
  [[ -n $site ]] || die "apt here knows no Debian mirror: set FLYHOT_DEBIAN_MIRROR to one."
  echo "${site%/}"
}

APT=()
apt_for() { # $1 = suite, $2 = directory: apt with a state of its own that knows that suite alone
  local keyring=/usr/share/keyrings/debian-archive-keyring uri
  if [[ -r $keyring.gpg ]]; then keyring+=.gpg; else keyring+=.pgp; fi
  [[ -r $keyring ]] || die "Debian's archive keys are missing: install the package debian-archive-keyring, then try again."
  uri=$(mirror) || exit 1
  mkdir -p "$2"/{lists/partial,archives/partial}
  : > "$2/status"
  echo "deb [signed-by=$keyring] $uri $1 main" > "$2/sources.list"
  APT=(-q -o "Dir::Etc::SourceList=$2/sources.list" -o Dir::Etc::SourceParts=/dev/null
       -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
       -o "Dir::State=$2" -o "Dir::State::Lists=$2/lists" -o "Dir::State::Status=$2/status"
       -o "Dir::Cache=$2" -o "Dir::Cache::Archives=$2/archives" -o APT::Sandbox::User=
       -o APT::Update::Error-Mode=any -o Acquire::Retries=3 -o Acquire::Languages=none)
  apt-get "${APT[@]}" update > "$2/log" 2>&1 || {
    sed 's/^/  /' "$2/log" >&2
    die "the Debian mirror $uri did not answer for '$1': check the network, or set FLYHOT_DEBIAN_MIRROR to another."
  }
  apt-cache "${APT[@]}" dumpavail > "$2/available"
}

# Which packages, as "name version" lines: those of Erlang and Elixir that the lock names, patchelf, and the shared
# libraries these depend on, directly or not.
choose() { # $1 = index, $2 = lock
  awk '
    NR == FNR { if ($1 ~ /^(erlang-[^=]*|elixir|patchelf)=/) { sub(/=.*/, "", $1); queue[++n] = $1 }; next }
    /^Package: / { package = $2 }
    /^Version: / { version[package] = $2 }
    /^(Pre-)?Depends: / { sub(/^[^:]*: /, ""); needs[package] = needs[package] "," $0 }
    END {
      while (i < n) {
        package = queue[++i]
        if (package in done || !(package in version)) continue
        done[package]
        print package, version[package]
        count = split(needs[package], every, ",")
        for (j = 1; j <= count; j++) {
          alternatives = split(every[j], either, "|")
          for (k = 1; k <= alternatives; k++) {
            name = either[k]
            sub(/^ +/, "", name); sub(/[ (:].*/, "", name)
            if (name in version && name ~ /^(lib|zlib)/ && name !~ /^libjs-/) { queue[++n] = name; break }
          }
        }
      }
    }' "$2" "$1"
}

fetch() { # $1 = version, $2 = directory for the packages
  local n=$1 to=$2 suite lock=$HERE/otp-$1.lock state name version base moved=0 file sum
  suite=$(suite_of "$n")
  state=$PREFIX/.apt-$suite
  say "otp-$n: reading the index of Debian '$suite'"
  apt_for "$suite" "$state"
  choose "$state/available" "$lock" > "$state/chosen"
  base=$(awk '$1 == "erlang-base" {print $2}' "$state/chosen")
  [[ ${base#*:} == "$n".* ]] || die "Debian '$suite' has OTP ${base:-no longer}, not $n: point FLYHOT_OTP_PREFIX at a directory that holds otp-$n."
  grep -q '^elixir ' "$state/chosen" || die "Debian '$suite' has no Elixir: point FLYHOT_OTP_PREFIX at a directory that holds otp-$n."
  while read -r name version; do
    grep -qF "$name=$version " "$lock" || moved=$((moved + 1))
  done < "$state/chosen"
  ((moved == 0)) ||
    say "otp-$n: the mirror has moved on from $moved of the packages in otp-$n.lock; using what it has (erlang-base $base)"
  say "otp-$n: fetching $(wc -l < "$state/chosen") packages"
  ( cd "$to" && sed 's/ /=/' "$state/chosen" | xargs apt-get "${APT[@]}" download ) > "$state/log" 2>&1 || {
    sed 's/^/  /' "$state/log" >&2
    die "otp-$n: the download failed: check the network, then try again."
  }
  [[ $(dpkg --print-architecture) == amd64 ]] || return 0
  while read -r name version; do
    sum=$(awk -v package="$name=$version" '$1 == package {print $2}' "$lock")
    file=("$to/${name}_${version//:/%3a}"_*.deb)
    [[ -z $sum ]] || echo "$sum  ${file[0]}" | sha256sum --status -c - ||
      die "otp-$n: $name $version is not the package that otp-$n.lock names: do not use this mirror."
  done < "$state/chosen"
}

unpack() { # $1 = directory of packages, $2 = root
  local package
  mkdir -p "$2"/usr/{bin,sbin,lib,lib64}
  for package in bin sbin lib lib64; do ln -s "usr/$package" "$2/$package"; done
  for package in "$1"/*.deb; do
    dpkg-deb --fsys-tarfile "$package" |
      tar -x -C "$2" --no-same-owner --keep-directory-symlink \
          --exclude='./usr/share/*' --exclude='./etc/*' --exclude='./var/*' --exclude='*/gconv/*' ||
      die "cannot unpack ${package##*/}: is the disk full?"
  done
}

relink() { # $1 = root as it lies now, $2 = root as it will be called: programs use its own loader and libraries
  local libraries loader patchelf program
  libraries=$(dirname "$(find "$1/usr/lib" -maxdepth 2 -name libc.so.6 -print -quit)")
  loader=$(find "$libraries" "$1/usr/lib64" "$1/usr/lib" -maxdepth 1 -name 'ld-linux*.so.*' -print -quit)
  [[ -e $libraries/libc.so.6 && -n $loader ]] || die "the packages hold no C library: remove ${1%/root} and try again."
  patchelf=("$loader" --library-path "$libraries" "$1/usr/bin/patchelf")
  while IFS= read -r program; do
    "${patchelf[@]}" --print-interpreter "$program" >/dev/null 2>&1 || continue
    "${patchelf[@]}" --set-interpreter "$2${loader#"$1"}" --force-rpath --set-rpath "$2${libraries#"$1"}" "$program"
  done < <(find "$1/usr/lib/erlang" -type f -perm -u+x ! -name '*.so' ! -name '*.beam')
  grep -rIlZ /usr/lib/erlang "$1"/usr/lib/erlang/{bin,releases} "$1"/usr/lib/erlang/erts-*/bin |
    xargs -0 -r sed -i "s#/usr/lib/erlang#$2/usr/lib/erlang#g"
}

commands() { # $1 = directory to write to, $2 = root as it will be called
  local name erlang=$2/usr/lib/erlang elixir=$2/usr/lib/elixir/bin bin=${2%/root}/bin
  mkdir "$1/bin"
  command_file() { # name, what to execute
    printf '%s\n' '#!/bin/sh' "case \$PATH in $bin:*) ;; *) PATH=$bin:\$PATH; export PATH ;; esac" \
      'unset ROOTDIR BINDIR EMU PROGNAME' "exec $2 \"\$@\"" > "$1/bin/$3"
    chmod 755 "$1/bin/$3"
  }
  for name in erl erlc escript epmd dialyzer ct_run; do
    [[ ! -e $1/root/usr/lib/erlang/bin/$name ]] || command_file "$1" "$erlang/bin/$name" "$name"
  done
  for name in elixir elixirc iex; do command_file "$1" "$elixir/$name" "$name"; done
  command_file "$1" "$elixir/elixir $elixir/mix" mix
}

set_up() { # $1 = version
  local n=$1 final=$PREFIX/otp-$1 tool
  if works "$n" && { [[ ! -e $final/otp.lock ]] || cmp -s "$final/otp.lock" "$HERE/otp-$n.lock"; }; then return; fi
  # Another's directory is not ours to remove.
  [[ ! -e $final || -e $final/otp.lock ]] ||
    die "$final is there and does not work, and was not made by this script: remove it, or set FLYHOT_OTP_PREFIX."
  for tool in apt-get dpkg-deb flock; do
    command -v $tool >/dev/null ||
      die "No $tool: Erlang is taken from Debian packages, so use Debian, or point FLYHOT_OTP_PREFIX at a directory that holds otp-25, otp-27 and otp-29."
  done
  STAGE=$PREFIX/.stage-$n
  rm -rf "$STAGE"
  mkdir -p "$STAGE/packages"
  fetch "$n" "$STAGE/packages"
  say "otp-$n: unpacking"
  unpack "$STAGE/packages" "$STAGE/root"
  relink "$STAGE/root" "$final/root"
  commands "$STAGE" "$final/root"
  cp "$HERE/otp-$n.lock" "$STAGE/otp.lock"
  rm -rf "$STAGE/packages" "$final" "$PREFIX/.apt-$(suite_of "$n")"
  mv "$STAGE" "$final"
  STAGE=$final # removed when it turns out not to work
  works "$n" || die "otp-$n was put together but does not run: report this with the output of '$final/bin/erl -version'."
  STAGE=
  say "otp-$n: ready, Elixir $("$final/bin/elixir" -e 'IO.write(System.version())')"
}

check_rust
check_linker
PREFIX=${FLYHOT_OTP_PREFIX:-target/otp}
[[ $PREFIX == /* ]] || PREFIX=$CHECKOUT/$PREFIX
[[ $PREFIX =~ ^[A-Za-z0-9_./+@=-]+$ ]] || die "the path $PREFIX holds characters that Erlang's start scripts cannot take: set FLYHOT_OTP_PREFIX to another."
if ! mkdir -p "$PREFIX" 2>/dev/null; then die "cannot make the directory $PREFIX: set FLYHOT_OTP_PREFIX to one that you may write."; fi
if [[ -w $PREFIX ]] && command -v flock >/dev/null; then
  exec 9> "$PREFIX/.lock"
  flock 9
fi
for n in 25 27 29; do set_up "$n"; done
set_up_moto
