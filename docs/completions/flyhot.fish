# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_flyhot_global_optspecs
    string join \n h/help V/version
end

function __fish_flyhot_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_flyhot_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_flyhot_using_subcommand
    set -l cmd (__fish_flyhot_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c flyhot -n "__fish_flyhot_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_needs_command" -s V -l version -d 'Print version'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "upgrade" -d 'Upgrade running nodes to a release'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "plan" -d 'Show what an upgrade would do; changes nothing on a node'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "status" -d 'Show what nodes run, at once; changes nothing and loads nothing there'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "thaw" -d 'Show processes that a tool left suspended, and resume them with --apply'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "doctor" -d 'Check whether nodes can be reached and upgraded, and say how to mend what cannot'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "restore-base" -d 'Have the next start of nodes load what was there before any upgrade'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "pack" -d 'Pack a release into an artifact'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "verify" -d 'Check every byte of an artifact, and its signature'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "unpack" -d 'Check an artifact and unpack it, whole or not at all'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "keygen" -d 'Make a pair of keys to sign artifacts with'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "sign" -d 'Sign an artifact'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "rollout" -d 'Upgrade nodes in waves, all of them or none, and have a store say what they run'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "rollback" -d 'Take nodes back to what a store says that they ran before'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "deploy" -d 'Build an image and upgrade every machine of an app on Fly.io to it'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "orchestrate" -d 'Roll out the release in this machine\'s image, for somebody who is elsewhere'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "events" -d 'Show what an orchestrator on this machine said'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "tell" -d 'Tell an orchestrator on this machine what comes on standard input'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "lock" -d 'Show or let go the lock of an app in a store'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "history" -d 'Show what a fleet should run, and what it ran before'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "gc" -d 'Remove artifacts from a store that its history does not name'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "config" -d 'Show what arguments, configuration and environment say, and who said it'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "boot" -d 'Start a release with the code that its fleet should run'
complete -c flyhot -n "__fish_flyhot_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l node -d 'Nodes, by the names that they print for `node()`; an upgrade takes them one after the other, and stops at the first that is not upgraded; a rollout in waves [default: those of --inventory]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l inventory -d 'Instead of naming nodes: a file with the name of one on each line; or `fly`, those of every machine of an app on Fly.io that is started and runs a node [default: fly, where an app is known by --app, fly.toml, FLY_APP_NAME or `otp_app` of `config :fly_deploy`]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l cookie-file -d 'File that holds the cookie of the nodes' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l dist-port -d 'Port the nodes listen on for distribution; epmd is not asked then' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l epmd-port -d 'Port of epmd on the host of each node [default: ERL_EPMD_PORT, else 4369]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l tls-ca-file -d 'Certificates of the CAs that may have signed a node\'s certificate, PEM; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l tls-cert-file -d 'The certificate to show, with those between it and the CA that the nodes know, PEM; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l tls-key-file -d 'The key of that certificate, PEM, not encrypted; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l release -d 'Release to upgrade to: a directory made by `mix release` or relx' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l window-budget -d 'Longest time from the first suspend to the swap; below 5s, the time a gen_server call waits by default' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l revert-budget -d 'Longest time for bringing the old code back after a failure; a plan warns when it would need longer' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l freeze-attempts -d 'How many times a freeze is tried before giving up with exit code 14' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l in-flight -d 'Messages sent to processes and not answered yet, at any time; more is not faster' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l drain-timeout -d 'Longest wait for processes that still run the version before the running one' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l policy -d 'File that says whose callbacks processes run, which reasons are accepted, what is called before and after, and when the node is well: docs/policy.md. Without it none is looked for' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l accept -d 'Go on in spite of this reason; repeatable. `flyhot plan` shows the codes' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l quiesce-timeout -d 'Longest wait, before any freeze, for processes that do not read their mailbox [default: `suspend_timeout` of `config :fly_deploy` where a mix task says it, else 10s]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l report -d 'Write a page of HTML there, however it ends: what became of each node, why, and when' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l app -d 'The app on Fly.io whose machines are asked for [default: `app` in fly.toml, else FLY_APP_NAME; on a machine of Fly.io the other way around]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l config -d 'The app\'s configuration on Fly.io, or the directory that it lies in [default: `fly_config` of `config :fly_deploy`, else the first there is of fly.toml, fly.json and fly.yaml]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l dist-tls -d 'The nodes speak TLS distribution (`-proto_dist inet_tls`): both sides show a certificate and look at the other\'s'
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l down -d 'The release is older than what runs: its code_change is told {down, Vsn} (that of the release, after the swap; OTP\'s release_handler asks the newer code, before it)'
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l kill-lingerers -d 'End the processes that are left when --drain-timeout is over, instead of refusing'
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l require-way-back -d 'Refuse unless old code and old states could come back at once'
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l drain-entry -d 'Pause the listeners of ranch and ThousandIsland right before the knock, wait until no request runs in a changed module (at most --drain-timeout), and resume them after the window, however it ended'
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l no-rehearsal -d 'Do not try the new code_change on live states before the swap'
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l no-persist -d 'Do not write the new code to the disk of the node: a restart boots the old code, and the next upgrade of these modules has no way back'
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -l dry-run -d 'Stop after the plan, as `flyhot plan` does'
complete -c flyhot -n "__fish_flyhot_using_subcommand upgrade" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l node -d 'Nodes, by the names that they print for `node()`; an upgrade takes them one after the other, and stops at the first that is not upgraded; a rollout in waves [default: those of --inventory]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l inventory -d 'Instead of naming nodes: a file with the name of one on each line; or `fly`, those of every machine of an app on Fly.io that is started and runs a node [default: fly, where an app is known by --app, fly.toml, FLY_APP_NAME or `otp_app` of `config :fly_deploy`]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l cookie-file -d 'File that holds the cookie of the nodes' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l dist-port -d 'Port the nodes listen on for distribution; epmd is not asked then' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l epmd-port -d 'Port of epmd on the host of each node [default: ERL_EPMD_PORT, else 4369]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l tls-ca-file -d 'Certificates of the CAs that may have signed a node\'s certificate, PEM; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l tls-cert-file -d 'The certificate to show, with those between it and the CA that the nodes know, PEM; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l tls-key-file -d 'The key of that certificate, PEM, not encrypted; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l release -d 'Release to upgrade to: a directory made by `mix release` or relx' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l image -d 'Instead of a release that is here, that of an image: a machine of it is made for the time of the plan' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l window-budget -d 'Longest time from the first suspend to the swap; below 5s, the time a gen_server call waits by default' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l revert-budget -d 'Longest time for bringing the old code back after a failure; a plan warns when it would need longer' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l freeze-attempts -d 'How many times a freeze is tried before giving up with exit code 14' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l in-flight -d 'Messages sent to processes and not answered yet, at any time; more is not faster' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l drain-timeout -d 'Longest wait for processes that still run the version before the running one' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l policy -d 'File that says whose callbacks processes run, which reasons are accepted, what is called before and after, and when the node is well: docs/policy.md. Without it none is looked for' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l accept -d 'Go on in spite of this reason; repeatable. `flyhot plan` shows the codes' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l quiesce-timeout -d 'Longest wait, before any freeze, for processes that do not read their mailbox [default: `suspend_timeout` of `config :fly_deploy` where a mix task says it, else 10s]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l app -d 'The app on Fly.io whose machines are asked for [default: `app` in fly.toml, else FLY_APP_NAME; on a machine of Fly.io the other way around]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l config -d 'The app\'s configuration on Fly.io, or the directory that it lies in [default: `fly_config` of `config :fly_deploy`, else the first there is of fly.toml, fly.json and fly.yaml]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l dist-tls -d 'The nodes speak TLS distribution (`-proto_dist inet_tls`): both sides show a certificate and look at the other\'s'
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l down -d 'The release is older than what runs: its code_change is told {down, Vsn} (that of the release, after the swap; OTP\'s release_handler asks the newer code, before it)'
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l kill-lingerers -d 'End the processes that are left when --drain-timeout is over, instead of refusing'
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l require-way-back -d 'Refuse unless old code and old states could come back at once'
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l drain-entry -d 'Pause the listeners of ranch and ThousandIsland right before the knock, wait until no request runs in a changed module (at most --drain-timeout), and resume them after the window, however it ended'
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l no-rehearsal -d 'Do not try the new code_change on live states before the swap'
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -l no-persist -d 'Do not write the new code to the disk of the node: a restart boots the old code, and the next upgrade of these modules has no way back'
complete -c flyhot -n "__fish_flyhot_using_subcommand plan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand status" -l node -d 'Nodes, by the names that they print for `node()`; an upgrade takes them one after the other, and stops at the first that is not upgraded; a rollout in waves [default: those of --inventory]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand status" -l inventory -d 'Instead of naming nodes: a file with the name of one on each line; or `fly`, those of every machine of an app on Fly.io that is started and runs a node [default: fly, where an app is known by --app, fly.toml, FLY_APP_NAME or `otp_app` of `config :fly_deploy`]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand status" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand status" -l cookie-file -d 'File that holds the cookie of the nodes' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand status" -l dist-port -d 'Port the nodes listen on for distribution; epmd is not asked then' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand status" -l epmd-port -d 'Port of epmd on the host of each node [default: ERL_EPMD_PORT, else 4369]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand status" -l tls-ca-file -d 'Certificates of the CAs that may have signed a node\'s certificate, PEM; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand status" -l tls-cert-file -d 'The certificate to show, with those between it and the CA that the nodes know, PEM; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand status" -l tls-key-file -d 'The key of that certificate, PEM, not encrypted; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand status" -l app -d 'The app on Fly.io whose machines are asked for [default: `app` in fly.toml, else FLY_APP_NAME; on a machine of Fly.io the other way around]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand status" -l config -d 'The app\'s configuration on Fly.io, or the directory that it lies in [default: `fly_config` of `config :fly_deploy`, else the first there is of fly.toml, fly.json and fly.yaml]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand status" -l dist-tls -d 'The nodes speak TLS distribution (`-proto_dist inet_tls`): both sides show a certificate and look at the other\'s'
complete -c flyhot -n "__fish_flyhot_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand thaw" -l node -d 'Nodes, by the names that they print for `node()`; an upgrade takes them one after the other, and stops at the first that is not upgraded; a rollout in waves [default: those of --inventory]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand thaw" -l inventory -d 'Instead of naming nodes: a file with the name of one on each line; or `fly`, those of every machine of an app on Fly.io that is started and runs a node [default: fly, where an app is known by --app, fly.toml, FLY_APP_NAME or `otp_app` of `config :fly_deploy`]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand thaw" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand thaw" -l cookie-file -d 'File that holds the cookie of the nodes' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand thaw" -l dist-port -d 'Port the nodes listen on for distribution; epmd is not asked then' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand thaw" -l epmd-port -d 'Port of epmd on the host of each node [default: ERL_EPMD_PORT, else 4369]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand thaw" -l tls-ca-file -d 'Certificates of the CAs that may have signed a node\'s certificate, PEM; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand thaw" -l tls-cert-file -d 'The certificate to show, with those between it and the CA that the nodes know, PEM; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand thaw" -l tls-key-file -d 'The key of that certificate, PEM, not encrypted; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand thaw" -l app -d 'The app on Fly.io whose machines are asked for [default: `app` in fly.toml, else FLY_APP_NAME; on a machine of Fly.io the other way around]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand thaw" -l config -d 'The app\'s configuration on Fly.io, or the directory that it lies in [default: `fly_config` of `config :fly_deploy`, else the first there is of fly.toml, fly.json and fly.yaml]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand thaw" -l dist-tls -d 'The nodes speak TLS distribution (`-proto_dist inet_tls`): both sides show a certificate and look at the other\'s'
complete -c flyhot -n "__fish_flyhot_using_subcommand thaw" -l apply -d 'Resume them. Without it they are shown, and nothing is touched'
complete -c flyhot -n "__fish_flyhot_using_subcommand thaw" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand doctor" -l node -d 'Nodes, by the names that they print for `node()`; an upgrade takes them one after the other, and stops at the first that is not upgraded; a rollout in waves [default: those of --inventory]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand doctor" -l inventory -d 'Instead of naming nodes: a file with the name of one on each line; or `fly`, those of every machine of an app on Fly.io that is started and runs a node [default: fly, where an app is known by --app, fly.toml, FLY_APP_NAME or `otp_app` of `config :fly_deploy`]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand doctor" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand doctor" -l cookie-file -d 'File that holds the cookie of the nodes' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand doctor" -l dist-port -d 'Port the nodes listen on for distribution; epmd is not asked then' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand doctor" -l epmd-port -d 'Port of epmd on the host of each node [default: ERL_EPMD_PORT, else 4369]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand doctor" -l tls-ca-file -d 'Certificates of the CAs that may have signed a node\'s certificate, PEM; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand doctor" -l tls-cert-file -d 'The certificate to show, with those between it and the CA that the nodes know, PEM; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand doctor" -l tls-key-file -d 'The key of that certificate, PEM, not encrypted; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand doctor" -l app -d 'Whose releases: the name of the release, or of the app on Fly.io [default: `app` in fly.toml, else FLY_APP_NAME; on a machine of Fly.io the other way around]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand doctor" -l store -d 'A directory that is the store' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand doctor" -l bucket -d 'A bucket that is the store [default: `bucket` of `config :fly_deploy`; else AWS_BUCKET, else BUCKET_NAME in [env] of fly.toml; else the variables AWS_BUCKET, else BUCKET_NAME]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand doctor" -l endpoint -d 'Where the bucket is reached [default: `aws_endpoint_url_s3` of `config :fly_deploy`, else AWS_ENDPOINT_URL_S3 in [env] of fly.toml, else that variable, else https://t3.storage.dev]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand doctor" -l region -d 'The region of the bucket [default: `aws_region` of `config :fly_deploy`, else AWS_REGION in [env] of fly.toml, else that variable, else auto]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand doctor" -l config -d 'The app\'s configuration on Fly.io, or the directory that it lies in [default: `fly_config` of `config :fly_deploy`, else the first there is of fly.toml, fly.json and fly.yaml]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand doctor" -l dist-tls -d 'The nodes speak TLS distribution (`-proto_dist inet_tls`): both sides show a certificate and look at the other\'s'
complete -c flyhot -n "__fish_flyhot_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand restore-base" -l node -d 'Nodes, by the names that they print for `node()`; an upgrade takes them one after the other, and stops at the first that is not upgraded; a rollout in waves [default: those of --inventory]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand restore-base" -l inventory -d 'Instead of naming nodes: a file with the name of one on each line; or `fly`, those of every machine of an app on Fly.io that is started and runs a node [default: fly, where an app is known by --app, fly.toml, FLY_APP_NAME or `otp_app` of `config :fly_deploy`]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand restore-base" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand restore-base" -l cookie-file -d 'File that holds the cookie of the nodes' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand restore-base" -l dist-port -d 'Port the nodes listen on for distribution; epmd is not asked then' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand restore-base" -l epmd-port -d 'Port of epmd on the host of each node [default: ERL_EPMD_PORT, else 4369]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand restore-base" -l tls-ca-file -d 'Certificates of the CAs that may have signed a node\'s certificate, PEM; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand restore-base" -l tls-cert-file -d 'The certificate to show, with those between it and the CA that the nodes know, PEM; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand restore-base" -l tls-key-file -d 'The key of that certificate, PEM, not encrypted; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand restore-base" -l app -d 'The app on Fly.io whose machines are asked for [default: `app` in fly.toml, else FLY_APP_NAME; on a machine of Fly.io the other way around]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand restore-base" -l config -d 'The app\'s configuration on Fly.io, or the directory that it lies in [default: `fly_config` of `config :fly_deploy`, else the first there is of fly.toml, fly.json and fly.yaml]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand restore-base" -l dist-tls -d 'The nodes speak TLS distribution (`-proto_dist inet_tls`): both sides show a certificate and look at the other\'s'
complete -c flyhot -n "__fish_flyhot_using_subcommand restore-base" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand pack" -l release -d 'Release to pack: a directory made by `mix release` or relx' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand pack" -l out -d 'File to write; it appears whole, and takes the place of one that is there' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand pack" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand pack" -l hot -d 'Beams, .app files and priv of the release\'s own applications, consolidated protocols and boot files; the default'
complete -c flyhot -n "__fish_flyhot_using_subcommand pack" -l full -d 'The whole release, ERTS and configuration with it, and the cookie that Mix writes into it'
complete -c flyhot -n "__fish_flyhot_using_subcommand pack" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand verify" -l signature -d 'Its signature [default: the file beside it with `.sig` behind its name, where there is one]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand verify" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand unpack" -l signature -d 'Its signature [default: the file beside it with `.sig` behind its name, where there is one]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand unpack" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand unpack" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand keygen" -l out -d 'File to write the private key to; it must not be there' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand keygen" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand keygen" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand sign" -l key-file -d 'File that holds the private key, as `flyhot keygen` made it' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand sign" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand sign" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l node -d 'Nodes, by the names that they print for `node()`; an upgrade takes them one after the other, and stops at the first that is not upgraded; a rollout in waves [default: those of --inventory]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l inventory -d 'Instead of naming nodes: a file with the name of one on each line; or `fly`, those of every machine of an app on Fly.io that is started and runs a node [default: fly, where an app is known by --app, fly.toml, FLY_APP_NAME or `otp_app` of `config :fly_deploy`]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l cookie-file -d 'File that holds the cookie of the nodes' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l dist-port -d 'Port the nodes listen on for distribution; epmd is not asked then' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l epmd-port -d 'Port of epmd on the host of each node [default: ERL_EPMD_PORT, else 4369]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l tls-ca-file -d 'Certificates of the CAs that may have signed a node\'s certificate, PEM; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l tls-cert-file -d 'The certificate to show, with those between it and the CA that the nodes know, PEM; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l tls-key-file -d 'The key of that certificate, PEM, not encrypted; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l release -d 'Release to upgrade to: a directory made by `mix release` or relx' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l window-budget -d 'Longest time from the first suspend to the swap; below 5s, the time a gen_server call waits by default' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l revert-budget -d 'Longest time for bringing the old code back after a failure; a plan warns when it would need longer' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l freeze-attempts -d 'How many times a freeze is tried before giving up with exit code 14' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l in-flight -d 'Messages sent to processes and not answered yet, at any time; more is not faster' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l drain-timeout -d 'Longest wait for processes that still run the version before the running one' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l policy -d 'File that says whose callbacks processes run, which reasons are accepted, what is called before and after, and when the node is well: docs/policy.md. Without it none is looked for' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l accept -d 'Go on in spite of this reason; repeatable. `flyhot plan` shows the codes' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l quiesce-timeout -d 'Longest wait, before any freeze, for processes that do not read their mailbox [default: `suspend_timeout` of `config :fly_deploy` where a mix task says it, else 10s]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l report -d 'Write a page of HTML there, however it ends: what became of each node, why, and when' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l base -d 'The image that the machines were started from, as `flyhot boot` finds it there; only machines of this image boot what is rolled out' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l max-concurrency -d 'How many nodes are worked on at once; the next ones are begun when all of these are done and well [default: `max_concurrency` of `config :fly_deploy` where a mix task says it, else 20]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l bake -d 'How long the canary stands alone before the others are begun; it is asked once more whether it is well then' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l check-url -d 'A node is well when this URL answers with 2xx or 3xx within 30 s; {host} stands for the node\'s host [default: FLYHOT_CHECK_URL]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l timeout -d 'Longest time for the work on one node before its window; then it is left as it is, and has failed. [default: `timeout` of `config :fly_deploy` where a mix task says it, else 60s of a deploy; else every step has a limit of its own]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l app -d 'Whose releases: the name of the release, or of the app on Fly.io [default: `app` in fly.toml, else FLY_APP_NAME; on a machine of Fly.io the other way around]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l store -d 'A directory that is the store' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l bucket -d 'A bucket that is the store [default: `bucket` of `config :fly_deploy`; else AWS_BUCKET, else BUCKET_NAME in [env] of fly.toml; else the variables AWS_BUCKET, else BUCKET_NAME]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l endpoint -d 'Where the bucket is reached [default: `aws_endpoint_url_s3` of `config :fly_deploy`, else AWS_ENDPOINT_URL_S3 in [env] of fly.toml, else that variable, else https://t3.storage.dev]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l region -d 'The region of the bucket [default: `aws_region` of `config :fly_deploy`, else AWS_REGION in [env] of fly.toml, else that variable, else auto]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l config -d 'The app\'s configuration on Fly.io, or the directory that it lies in [default: `fly_config` of `config :fly_deploy`, else the first there is of fly.toml, fly.json and fly.yaml]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l lock-timeout -d 'How long the lock outlives this command where that is killed; it is renewed all along' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l lock-wait -d 'How long to wait for somebody else who holds the lock' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l key-file -d 'Sign what is put into the store with the private key in this file' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l dist-tls -d 'The nodes speak TLS distribution (`-proto_dist inet_tls`): both sides show a certificate and look at the other\'s'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l down -d 'The release is older than what runs: its code_change is told {down, Vsn} (that of the release, after the swap; OTP\'s release_handler asks the newer code, before it)'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l kill-lingerers -d 'End the processes that are left when --drain-timeout is over, instead of refusing'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l require-way-back -d 'Refuse unless old code and old states could come back at once'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l drain-entry -d 'Pause the listeners of ranch and ThousandIsland right before the knock, wait until no request runs in a changed module (at most --drain-timeout), and resume them after the window, however it ended'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l no-rehearsal -d 'Do not try the new code_change on live states before the swap'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l no-persist -d 'Do not write the new code to the disk of the node: a restart boots the old code, and the next upgrade of these modules has no way back'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l new-base -d 'The machines are of another image than those before: what ran there is forgotten, this one\'s code is saved first'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l sequential -d 'One node after the other: --max-concurrency 1'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l canary -d 'Begin with the first node alone that does not run the release yet'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l no-rollback -d 'Leave upgraded nodes on the release when a node fails or is not well, instead of taking all of them back to what was committed before'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -l force -d 'Take the lock even if somebody holds it: who that is is said, and stops before the next step'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollout" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l node -d 'Nodes, by the names that they print for `node()`; an upgrade takes them one after the other, and stops at the first that is not upgraded; a rollout in waves [default: those of --inventory]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l inventory -d 'Instead of naming nodes: a file with the name of one on each line; or `fly`, those of every machine of an app on Fly.io that is started and runs a node [default: fly, where an app is known by --app, fly.toml, FLY_APP_NAME or `otp_app` of `config :fly_deploy`]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l cookie-file -d 'File that holds the cookie of the nodes' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l dist-port -d 'Port the nodes listen on for distribution; epmd is not asked then' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l epmd-port -d 'Port of epmd on the host of each node [default: ERL_EPMD_PORT, else 4369]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l tls-ca-file -d 'Certificates of the CAs that may have signed a node\'s certificate, PEM; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l tls-cert-file -d 'The certificate to show, with those between it and the CA that the nodes know, PEM; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l tls-key-file -d 'The key of that certificate, PEM, not encrypted; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l report -d 'Write a page of HTML there, however it ends: what became of each node, why, and when' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l to -d 'The latest of the history with this version or code id; a code id may be cut short [default: the latest other code]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l window-budget -d 'Longest time from the first suspend to the swap; below 5s, the time a gen_server call waits by default' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l revert-budget -d 'Longest time for bringing the old code back after a failure; a plan warns when it would need longer' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l freeze-attempts -d 'How many times a freeze is tried before giving up with exit code 14' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l in-flight -d 'Messages sent to processes and not answered yet, at any time; more is not faster' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l drain-timeout -d 'Longest wait for processes that still run the version before the running one' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l policy -d 'File that says whose callbacks processes run, which reasons are accepted, what is called before and after, and when the node is well: docs/policy.md. Without it none is looked for' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l accept -d 'Go on in spite of this reason; repeatable. `flyhot plan` shows the codes' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l quiesce-timeout -d 'Longest wait, before any freeze, for processes that do not read their mailbox [default: `suspend_timeout` of `config :fly_deploy` where a mix task says it, else 10s]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l max-concurrency -d 'How many nodes are worked on at once; the next ones are begun when all of these are done and well [default: `max_concurrency` of `config :fly_deploy` where a mix task says it, else 20]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l bake -d 'How long the canary stands alone before the others are begun; it is asked once more whether it is well then' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l check-url -d 'A node is well when this URL answers with 2xx or 3xx within 30 s; {host} stands for the node\'s host [default: FLYHOT_CHECK_URL]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l timeout -d 'Longest time for the work on one node before its window; then it is left as it is, and has failed. [default: `timeout` of `config :fly_deploy` where a mix task says it, else 60s of a deploy; else every step has a limit of its own]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l memory -d 'Memory of the machine that is made for the work, where one is, MB [default: 1024, or more where the release in _build/prod/rel is so large that all its code for all machines at once would not go in]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l app -d 'Whose releases: the name of the release, or of the app on Fly.io [default: `app` in fly.toml, else FLY_APP_NAME; on a machine of Fly.io the other way around]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l store -d 'A directory that is the store' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l bucket -d 'A bucket that is the store [default: `bucket` of `config :fly_deploy`; else AWS_BUCKET, else BUCKET_NAME in [env] of fly.toml; else the variables AWS_BUCKET, else BUCKET_NAME]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l endpoint -d 'Where the bucket is reached [default: `aws_endpoint_url_s3` of `config :fly_deploy`, else AWS_ENDPOINT_URL_S3 in [env] of fly.toml, else that variable, else https://t3.storage.dev]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l region -d 'The region of the bucket [default: `aws_region` of `config :fly_deploy`, else AWS_REGION in [env] of fly.toml, else that variable, else auto]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l config -d 'The app\'s configuration on Fly.io, or the directory that it lies in [default: `fly_config` of `config :fly_deploy`, else the first there is of fly.toml, fly.json and fly.yaml]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l lock-timeout -d 'How long the lock outlives this command where that is killed; it is renewed all along' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l lock-wait -d 'How long to wait for somebody else who holds the lock' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l dist-tls -d 'The nodes speak TLS distribution (`-proto_dist inet_tls`): both sides show a certificate and look at the other\'s'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l kill-lingerers -d 'End the processes that are left when --drain-timeout is over, instead of refusing'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l require-way-back -d 'Refuse unless old code and old states could come back at once'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l drain-entry -d 'Pause the listeners of ranch and ThousandIsland right before the knock, wait until no request runs in a changed module (at most --drain-timeout), and resume them after the window, however it ended'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l no-rehearsal -d 'Do not try the new code_change on live states before the swap'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l no-persist -d 'Do not write the new code to the disk of the node: a restart boots the old code, and the next upgrade of these modules has no way back'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l sequential -d 'One node after the other: --max-concurrency 1'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l canary -d 'Begin with the first node alone that does not run the release yet'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -l force -d 'Take the lock even if somebody holds it: who that is is said, and stops before the next step'
complete -c flyhot -n "__fish_flyhot_using_subcommand rollback" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l image -d 'An image that is there already: nothing is built [default: `[build] image` of fly.toml]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l build-arg -d 'A variable of the build; repeatable' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l mode -d 'How machines come to run the image' -r -f -a "hot\t'Their running code is upgraded'
blue_green\t'Others take their place: not there yet'"
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l report -d 'Write a page of HTML there, however it ends: what became of each node, why, and when' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l suspend-timeout -d 'Longest wait for processes that do not read their mailbox, before any freeze [default: `suspend_timeout` of `config :fly_deploy`, else 10s]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l window-budget -d 'Longest time from the first suspend to the swap; below 5s, the time a gen_server call waits by default' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l revert-budget -d 'Longest time for bringing the old code back after a failure; a plan warns when it would need longer' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l freeze-attempts -d 'How many times a freeze is tried before giving up with exit code 14' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l in-flight -d 'Messages sent to processes and not answered yet, at any time; more is not faster' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l drain-timeout -d 'Longest wait for processes that still run the version before the running one' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l policy -d 'File that says whose callbacks processes run, which reasons are accepted, what is called before and after, and when the node is well: docs/policy.md. Without it none is looked for' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l accept -d 'Go on in spite of this reason; repeatable. `flyhot plan` shows the codes' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l max-concurrency -d 'How many nodes are worked on at once; the next ones are begun when all of these are done and well [default: `max_concurrency` of `config :fly_deploy` where a mix task says it, else 20]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l bake -d 'How long the canary stands alone before the others are begun; it is asked once more whether it is well then' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l check-url -d 'A node is well when this URL answers with 2xx or 3xx within 30 s; {host} stands for the node\'s host [default: FLYHOT_CHECK_URL]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l timeout -d 'Longest time for the work on one node before its window; then it is left as it is, and has failed. [default: `timeout` of `config :fly_deploy` where a mix task says it, else 60s of a deploy; else every step has a limit of its own]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l memory -d 'Memory of the machine that is made for the work, where one is, MB [default: 1024, or more where the release in _build/prod/rel is so large that all its code for all machines at once would not go in]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l key-file -d 'Sign what is put into the store with the private key in this file, which stays here' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l app -d 'Whose releases: the name of the release, or of the app on Fly.io [default: `app` in fly.toml, else FLY_APP_NAME; on a machine of Fly.io the other way around]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l store -d 'A directory that is the store' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l bucket -d 'A bucket that is the store [default: `bucket` of `config :fly_deploy`; else AWS_BUCKET, else BUCKET_NAME in [env] of fly.toml; else the variables AWS_BUCKET, else BUCKET_NAME]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l endpoint -d 'Where the bucket is reached [default: `aws_endpoint_url_s3` of `config :fly_deploy`, else AWS_ENDPOINT_URL_S3 in [env] of fly.toml, else that variable, else https://t3.storage.dev]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l region -d 'The region of the bucket [default: `aws_region` of `config :fly_deploy`, else AWS_REGION in [env] of fly.toml, else that variable, else auto]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l config -d 'The app\'s configuration on Fly.io, or the directory that it lies in [default: `fly_config` of `config :fly_deploy`, else the first there is of fly.toml, fly.json and fly.yaml]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l lock-timeout -d 'How long the lock outlives this command where that is killed; it is renewed all along' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l lock-wait -d 'How long to wait for somebody else who holds the lock' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l skip-build -d 'Build nothing; with --image'
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l no-cache -d 'Use nothing that earlier builds left'
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l buildkit -d 'Have BuildKit build'
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l dry-run -d 'Say what would be done, and do nothing'
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l kill-lingerers -d 'End the processes that are left when --drain-timeout is over, instead of refusing'
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l require-way-back -d 'Refuse unless old code and old states could come back at once'
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l drain-entry -d 'Pause the listeners of ranch and ThousandIsland right before the knock, wait until no request runs in a changed module (at most --drain-timeout), and resume them after the window, however it ended'
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l no-rehearsal -d 'Do not try the new code_change on live states before the swap'
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l no-persist -d 'Do not write the new code to the disk of the node: a restart boots the old code, and the next upgrade of these modules has no way back'
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l sequential -d 'One node after the other: --max-concurrency 1'
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l canary -d 'Begin with the first node alone that does not run the release yet'
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l no-rollback -d 'Leave upgraded machines on the new code when one fails or is not well, instead of taking all of them back'
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -l force -d 'Take the lock even if somebody holds it: who that is is said, and stops before the next step'
complete -c flyhot -n "__fish_flyhot_using_subcommand deploy" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l node -d 'Nodes, by the names that they print for `node()`; an upgrade takes them one after the other, and stops at the first that is not upgraded; a rollout in waves [default: those of --inventory]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l inventory -d 'Instead of naming nodes: a file with the name of one on each line; or `fly`, those of every machine of an app on Fly.io that is started and runs a node [default: fly, where an app is known by --app, fly.toml, FLY_APP_NAME or `otp_app` of `config :fly_deploy`]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l cookie-file -d 'File that holds the cookie of the nodes' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l dist-port -d 'Port the nodes listen on for distribution; epmd is not asked then' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l epmd-port -d 'Port of epmd on the host of each node [default: ERL_EPMD_PORT, else 4369]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l tls-ca-file -d 'Certificates of the CAs that may have signed a node\'s certificate, PEM; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l tls-cert-file -d 'The certificate to show, with those between it and the CA that the nodes know, PEM; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l tls-key-file -d 'The key of that certificate, PEM, not encrypted; with --dist-tls' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l asked-by -d 'The flyhot that asks for this: another version than this one is refused before anything is done' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l release -d 'Release to roll out [default: RELEASE_ROOT, else the working directory, else /app]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l window-budget -d 'Longest time from the first suspend to the swap; below 5s, the time a gen_server call waits by default' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l revert-budget -d 'Longest time for bringing the old code back after a failure; a plan warns when it would need longer' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l freeze-attempts -d 'How many times a freeze is tried before giving up with exit code 14' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l in-flight -d 'Messages sent to processes and not answered yet, at any time; more is not faster' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l drain-timeout -d 'Longest wait for processes that still run the version before the running one' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l policy -d 'File that says whose callbacks processes run, which reasons are accepted, what is called before and after, and when the node is well: docs/policy.md. Without it none is looked for' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l accept -d 'Go on in spite of this reason; repeatable. `flyhot plan` shows the codes' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l quiesce-timeout -d 'Longest wait, before any freeze, for processes that do not read their mailbox [default: `suspend_timeout` of `config :fly_deploy` where a mix task says it, else 10s]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l base -d 'The image that the machines were started from, as `flyhot boot` finds it there; only machines of this image boot what is rolled out' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l max-concurrency -d 'How many nodes are worked on at once; the next ones are begun when all of these are done and well [default: `max_concurrency` of `config :fly_deploy` where a mix task says it, else 20]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l bake -d 'How long the canary stands alone before the others are begun; it is asked once more whether it is well then' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l check-url -d 'A node is well when this URL answers with 2xx or 3xx within 30 s; {host} stands for the node\'s host [default: FLYHOT_CHECK_URL]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l timeout -d 'Longest time for the work on one node before its window; then it is left as it is, and has failed. [default: `timeout` of `config :fly_deploy` where a mix task says it, else 60s of a deploy; else every step has a limit of its own]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l app -d 'Whose releases: the name of the release, or of the app on Fly.io [default: `app` in fly.toml, else FLY_APP_NAME; on a machine of Fly.io the other way around]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l store -d 'A directory that is the store' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l bucket -d 'A bucket that is the store [default: `bucket` of `config :fly_deploy`; else AWS_BUCKET, else BUCKET_NAME in [env] of fly.toml; else the variables AWS_BUCKET, else BUCKET_NAME]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l endpoint -d 'Where the bucket is reached [default: `aws_endpoint_url_s3` of `config :fly_deploy`, else AWS_ENDPOINT_URL_S3 in [env] of fly.toml, else that variable, else https://t3.storage.dev]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l region -d 'The region of the bucket [default: `aws_region` of `config :fly_deploy`, else AWS_REGION in [env] of fly.toml, else that variable, else auto]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l config -d 'The app\'s configuration on Fly.io, or the directory that it lies in [default: `fly_config` of `config :fly_deploy`, else the first there is of fly.toml, fly.json and fly.yaml]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l lock-timeout -d 'How long the lock outlives this command where that is killed; it is renewed all along' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l lock-wait -d 'How long to wait for somebody else who holds the lock' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l dist-tls -d 'The nodes speak TLS distribution (`-proto_dist inet_tls`): both sides show a certificate and look at the other\'s'
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l await-signature -d 'Wait for the signature of what goes into the store, which `flyhot tell` brings'
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l kill-lingerers -d 'End the processes that are left when --drain-timeout is over, instead of refusing'
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l require-way-back -d 'Refuse unless old code and old states could come back at once'
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l drain-entry -d 'Pause the listeners of ranch and ThousandIsland right before the knock, wait until no request runs in a changed module (at most --drain-timeout), and resume them after the window, however it ended'
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l no-rehearsal -d 'Do not try the new code_change on live states before the swap'
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l no-persist -d 'Do not write the new code to the disk of the node: a restart boots the old code, and the next upgrade of these modules has no way back'
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l new-base -d 'The machines are of another image than those before: what ran there is forgotten, this one\'s code is saved first'
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l sequential -d 'One node after the other: --max-concurrency 1'
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l canary -d 'Begin with the first node alone that does not run the release yet'
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l no-rollback -d 'Leave upgraded nodes on the release when a node fails or is not well, instead of taking all of them back to what was committed before'
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -l force -d 'Take the lock even if somebody holds it: who that is is said, and stops before the next step'
complete -c flyhot -n "__fish_flyhot_using_subcommand orchestrate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand events" -l since -d 'How many events are known already' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand events" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand events" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand tell" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand tell" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and not __fish_seen_subcommand_from status release help" -s h -l help -d 'Print help'
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and not __fish_seen_subcommand_from status release help" -f -a "status" -d 'Show who holds it'
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and not __fish_seen_subcommand_from status release help" -f -a "release" -d 'Let it go, whoever holds it'
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and not __fish_seen_subcommand_from status release help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and __fish_seen_subcommand_from status" -l app -d 'Whose releases: the name of the release, or of the app on Fly.io [default: `app` in fly.toml, else FLY_APP_NAME; on a machine of Fly.io the other way around]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and __fish_seen_subcommand_from status" -l store -d 'A directory that is the store' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and __fish_seen_subcommand_from status" -l bucket -d 'A bucket that is the store [default: `bucket` of `config :fly_deploy`; else AWS_BUCKET, else BUCKET_NAME in [env] of fly.toml; else the variables AWS_BUCKET, else BUCKET_NAME]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and __fish_seen_subcommand_from status" -l endpoint -d 'Where the bucket is reached [default: `aws_endpoint_url_s3` of `config :fly_deploy`, else AWS_ENDPOINT_URL_S3 in [env] of fly.toml, else that variable, else https://t3.storage.dev]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and __fish_seen_subcommand_from status" -l region -d 'The region of the bucket [default: `aws_region` of `config :fly_deploy`, else AWS_REGION in [env] of fly.toml, else that variable, else auto]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and __fish_seen_subcommand_from status" -l config -d 'The app\'s configuration on Fly.io, or the directory that it lies in [default: `fly_config` of `config :fly_deploy`, else the first there is of fly.toml, fly.json and fly.yaml]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and __fish_seen_subcommand_from status" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and __fish_seen_subcommand_from release" -l app -d 'Whose releases: the name of the release, or of the app on Fly.io [default: `app` in fly.toml, else FLY_APP_NAME; on a machine of Fly.io the other way around]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and __fish_seen_subcommand_from release" -l store -d 'A directory that is the store' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and __fish_seen_subcommand_from release" -l bucket -d 'A bucket that is the store [default: `bucket` of `config :fly_deploy`; else AWS_BUCKET, else BUCKET_NAME in [env] of fly.toml; else the variables AWS_BUCKET, else BUCKET_NAME]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and __fish_seen_subcommand_from release" -l endpoint -d 'Where the bucket is reached [default: `aws_endpoint_url_s3` of `config :fly_deploy`, else AWS_ENDPOINT_URL_S3 in [env] of fly.toml, else that variable, else https://t3.storage.dev]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and __fish_seen_subcommand_from release" -l region -d 'The region of the bucket [default: `aws_region` of `config :fly_deploy`, else AWS_REGION in [env] of fly.toml, else that variable, else auto]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and __fish_seen_subcommand_from release" -l config -d 'The app\'s configuration on Fly.io, or the directory that it lies in [default: `fly_config` of `config :fly_deploy`, else the first there is of fly.toml, fly.json and fly.yaml]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and __fish_seen_subcommand_from release" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and __fish_seen_subcommand_from release" -l force -d 'Let it go although its lease goes on: whoever holds it stops before the next step'
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and __fish_seen_subcommand_from release" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and __fish_seen_subcommand_from help" -f -a "status" -d 'Show who holds it'
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and __fish_seen_subcommand_from help" -f -a "release" -d 'Let it go, whoever holds it'
complete -c flyhot -n "__fish_flyhot_using_subcommand lock; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c flyhot -n "__fish_flyhot_using_subcommand history" -l app -d 'Whose releases: the name of the release, or of the app on Fly.io [default: `app` in fly.toml, else FLY_APP_NAME; on a machine of Fly.io the other way around]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand history" -l store -d 'A directory that is the store' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand history" -l bucket -d 'A bucket that is the store [default: `bucket` of `config :fly_deploy`; else AWS_BUCKET, else BUCKET_NAME in [env] of fly.toml; else the variables AWS_BUCKET, else BUCKET_NAME]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand history" -l endpoint -d 'Where the bucket is reached [default: `aws_endpoint_url_s3` of `config :fly_deploy`, else AWS_ENDPOINT_URL_S3 in [env] of fly.toml, else that variable, else https://t3.storage.dev]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand history" -l region -d 'The region of the bucket [default: `aws_region` of `config :fly_deploy`, else AWS_REGION in [env] of fly.toml, else that variable, else auto]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand history" -l config -d 'The app\'s configuration on Fly.io, or the directory that it lies in [default: `fly_config` of `config :fly_deploy`, else the first there is of fly.toml, fly.json and fly.yaml]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand history" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand history" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand gc" -l app -d 'Whose releases: the name of the release, or of the app on Fly.io [default: `app` in fly.toml, else FLY_APP_NAME; on a machine of Fly.io the other way around]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand gc" -l store -d 'A directory that is the store' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand gc" -l bucket -d 'A bucket that is the store [default: `bucket` of `config :fly_deploy`; else AWS_BUCKET, else BUCKET_NAME in [env] of fly.toml; else the variables AWS_BUCKET, else BUCKET_NAME]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand gc" -l endpoint -d 'Where the bucket is reached [default: `aws_endpoint_url_s3` of `config :fly_deploy`, else AWS_ENDPOINT_URL_S3 in [env] of fly.toml, else that variable, else https://t3.storage.dev]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand gc" -l region -d 'The region of the bucket [default: `aws_region` of `config :fly_deploy`, else AWS_REGION in [env] of fly.toml, else that variable, else auto]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand gc" -l config -d 'The app\'s configuration on Fly.io, or the directory that it lies in [default: `fly_config` of `config :fly_deploy`, else the first there is of fly.toml, fly.json and fly.yaml]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand gc" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand gc" -l lock-timeout -d 'How long the lock outlives this command where that is killed; it is renewed all along' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand gc" -l lock-wait -d 'How long to wait for somebody else who holds the lock' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand gc" -l dry-run -d 'Show what would be removed'
complete -c flyhot -n "__fish_flyhot_using_subcommand gc" -l force -d 'Take the lock even if somebody holds it: who that is is said, and stops before the next step'
complete -c flyhot -n "__fish_flyhot_using_subcommand gc" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand config" -l app -d 'Whose releases: the name of the release, or of the app on Fly.io [default: `app` in fly.toml, else FLY_APP_NAME; on a machine of Fly.io the other way around]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand config" -l store -d 'A directory that is the store' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand config" -l bucket -d 'A bucket that is the store [default: `bucket` of `config :fly_deploy`; else AWS_BUCKET, else BUCKET_NAME in [env] of fly.toml; else the variables AWS_BUCKET, else BUCKET_NAME]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand config" -l endpoint -d 'Where the bucket is reached [default: `aws_endpoint_url_s3` of `config :fly_deploy`, else AWS_ENDPOINT_URL_S3 in [env] of fly.toml, else that variable, else https://t3.storage.dev]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand config" -l region -d 'The region of the bucket [default: `aws_region` of `config :fly_deploy`, else AWS_REGION in [env] of fly.toml, else that variable, else auto]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand config" -l config -d 'The app\'s configuration on Fly.io, or the directory that it lies in [default: `fly_config` of `config :fly_deploy`, else the first there is of fly.toml, fly.json and fly.yaml]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand config" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand config" -l explain -d 'Say of each value who said it'
complete -c flyhot -n "__fish_flyhot_using_subcommand config" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand boot" -l release -d 'The release\'s directory [default: that in whose bin CMD lies]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand boot" -l base -d 'The image of this machine; artifacts for others are not booted [default: FLY_IMAGE_REF]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand boot" -l on-unreachable -d 'What to do where the artifact cannot be had' -r -f -a "wait\t'Wait for the store as long as --wait says, then boot the base'
boot-base\t'Ask the store for 5 s at the most, then boot the base'
fail\t'Wait as long, then end: also where an artifact is damaged or not trusted'"
complete -c flyhot -n "__fish_flyhot_using_subcommand boot" -l wait -d 'Longest wait for a store that does not answer, or sends nothing more' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand boot" -l cache -d 'Where artifacts are kept [default: flyhot/artifacts in the release\'s directory]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand boot" -l app -d 'Whose releases: the name of the release, or of the app on Fly.io [default: `app` in fly.toml, else FLY_APP_NAME; on a machine of Fly.io the other way around]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand boot" -l store -d 'A directory that is the store' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand boot" -l bucket -d 'A bucket that is the store [default: `bucket` of `config :fly_deploy`; else AWS_BUCKET, else BUCKET_NAME in [env] of fly.toml; else the variables AWS_BUCKET, else BUCKET_NAME]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand boot" -l endpoint -d 'Where the bucket is reached [default: `aws_endpoint_url_s3` of `config :fly_deploy`, else AWS_ENDPOINT_URL_S3 in [env] of fly.toml, else that variable, else https://t3.storage.dev]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand boot" -l region -d 'The region of the bucket [default: `aws_region` of `config :fly_deploy`, else AWS_REGION in [env] of fly.toml, else that variable, else auto]' -r
complete -c flyhot -n "__fish_flyhot_using_subcommand boot" -l config -d 'The app\'s configuration on Fly.io, or the directory that it lies in [default: `fly_config` of `config :fly_deploy`, else the first there is of fly.toml, fly.json and fly.yaml]' -r -F
complete -c flyhot -n "__fish_flyhot_using_subcommand boot" -l output -d 'How to speak' -r -f -a "human\t'Text and tables; colours and bars on a terminal'
json\t'One event a line, the last one the outcome'"
complete -c flyhot -n "__fish_flyhot_using_subcommand boot" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "upgrade" -d 'Upgrade running nodes to a release'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "plan" -d 'Show what an upgrade would do; changes nothing on a node'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "status" -d 'Show what nodes run, at once; changes nothing and loads nothing there'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "thaw" -d 'Show processes that a tool left suspended, and resume them with --apply'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "doctor" -d 'Check whether nodes can be reached and upgraded, and say how to mend what cannot'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "restore-base" -d 'Have the next start of nodes load what was there before any upgrade'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "pack" -d 'Pack a release into an artifact'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "verify" -d 'Check every byte of an artifact, and its signature'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "unpack" -d 'Check an artifact and unpack it, whole or not at all'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "keygen" -d 'Make a pair of keys to sign artifacts with'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "sign" -d 'Sign an artifact'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "rollout" -d 'Upgrade nodes in waves, all of them or none, and have a store say what they run'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "rollback" -d 'Take nodes back to what a store says that they ran before'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "deploy" -d 'Build an image and upgrade every machine of an app on Fly.io to it'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "orchestrate" -d 'Roll out the release in this machine\'s image, for somebody who is elsewhere'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "events" -d 'Show what an orchestrator on this machine said'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "tell" -d 'Tell an orchestrator on this machine what comes on standard input'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "lock" -d 'Show or let go the lock of an app in a store'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "history" -d 'Show what a fleet should run, and what it ran before'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "gc" -d 'Remove artifacts from a store that its history does not name'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "config" -d 'Show what arguments, configuration and environment say, and who said it'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "boot" -d 'Start a release with the code that its fleet should run'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and not __fish_seen_subcommand_from upgrade plan status thaw doctor restore-base pack verify unpack keygen sign rollout rollback deploy orchestrate events tell lock history gc config boot help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and __fish_seen_subcommand_from lock" -f -a "status" -d 'Show who holds it'
complete -c flyhot -n "__fish_flyhot_using_subcommand help; and __fish_seen_subcommand_from lock" -f -a "release" -d 'Let it go, whoever holds it'
