#!/bin/sh
# flyctl, as far as flyhot calls it. @HERE@ has what it answers with and what it builds: a release that is there, or else the Mix project
# that it is called in.
here='@HERE@'
printf '%s\n' "$*" >>"$here/calls"

say() {
	printf '%s\n' "$1" >&2
	[ "$line_ms" = 0 ] || sleep "$(printf '%d.%03d' $((line_ms / 1000)) $((line_ms % 1000)))"
}

fail() {
	printf 'Error: %s\n' "$1" >&2
	exit "${2:-1}"
}

# What a Dockerfile says: the release of the project, and flyhot beside it. Of the laptop it knows what was named on the command line.
image() {
	root=$1 && shift
	if [ -d "$here/release" ]; then
		cp -a --reflink=auto "$here/release/." "$root"
	else
		env -i PATH="$PATH" HOME="$HOME" LC_ALL=C.UTF-8 MIX_ENV=prod MIX_BUILD_PATH="$here/build-$$" "$@" \
			mix release --path "$root/app" && cp -P "$here/flyhot" "$root/flyhot"
	fi
}

logged_in() {
	[ -s "$here/token" ] || [ -n "$FLY_API_TOKEN$FLY_ACCESS_TOKEN" ] ||
		fail "no access token available. Please login with 'flyctl auth login'"
}

read -r exit_code silent_s line_ms <"$here/fate"

case "$1 $2" in
"version "*)
	echo 'fly v0.3.200 linux/amd64 Commit: 0000000000 BuildDate: 2026-08-21T00:00:00Z'
	;;
"auth whoami")
	logged_in
	echo 'alice@example.com'
	;;
"auth token")
	logged_in
	case "$*" in
	*-q*) ;;
	*) echo 'WARN The "fly auth token" command is deprecated. Use "fly tokens create" instead.' >&2 ;;
	esac
	cat "$here/token"
	echo
	;;
"deploy "*)
	logged_in
	config=fly.toml label= only= push= named=
	shift
	# What is for the build gathers behind the end.
	set -- "$@" --
	while [ "$1" != -- ]; do
		case "$1" in
		--build-only) only=1 ;;
		--push) push=1 ;;
		--remote-only | --no-cache | --buildkit) ;;
		-c | --config) config=$2 && shift ;;
		-a | --app) named=$2 && shift ;;
		--build-arg) shift && set -- "$@" "$1" ;;
		--image-label) label=$2 && shift ;;
		*) fail "unknown flag: $1" ;;
		esac
		shift
	done
	shift
	[ -n "$only" ] || fail 'the tests know no deploy but --build-only'
	[ -f "$config" ] || fail "the config for your app is missing an app name, add an app field to the fly.toml file"
	app=$(sed -n 's/^app *= *["'\'']\(.*\)["'\''].*/\1/p' "$config")
	app=${named:-$app}
	[ "$silent_s" = 0 ] || sleep "$silent_s"
	say '==> Verifying app config'
	say "Validating $config"
	say '✓ Configuration is valid'
	say '--> Verified app config'
	say '==> Building image'
	if sed -n '/^\[build\]/,/^\[/p' "$config" | grep -q '^ *image *='; then
		# The reference is resolved, and nothing is built: no line says what it is.
		say 'Searching for image remotely...'
		exit 0
	fi
	say '==> Building image with Depot'
	say '--> build:  https://depot.dev/orgs/1/projects/1/builds/1'
	say '#1 [internal] load build definition from Dockerfile'
	say '#1 transferring dockerfile: 3.11kB done'
	case "$exit_code" in
	126) fail 'context deadline exceeded' 126 ;;
	127) fail 'context canceled' 127 ;;
	esac
	[ -n "$label" ] || label="deployment-01H3ANTSW6XD3ZGHKC$(printf '%010d' $$)"
	# As a directory that appears whole: name and label have no slash.
	unfinished=$here/images/.$app:$label.$$
	say '#7 [build 7/7] RUN mix release'
	failed=$exit_code
	[ "$failed" != 0 ] || failed=$(
		{
			{ image "$unfinished" "$@" 2>&1; echo $? >&3; } |
				while IFS= read -r text; do say "#7 0.1 $text"; done
		} 3>&1
	)
	if [ "$failed" != 0 ]; then
		say "#7 ERROR: process \"/bin/sh -c mix release\" did not complete successfully: exit code: $failed"
		fail "failed to fetch an image or build from source: error building: failed to solve"
	fi
	say '#7 DONE 0.1s'
	say '--> Building image done'
	[ -z "$push" ] || mv "$unfinished" "$here/images/$app:$label" || exit 1
	say "image: registry.fly.io/$app:$label"
	say 'image size: 169 MB'
	;;
*)
	fail "unknown command \"$1\" for \"fly\""
	;;
esac
