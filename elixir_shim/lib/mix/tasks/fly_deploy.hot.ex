defmodule Mix.Tasks.FlyDeploy.Hot do
  @shortdoc "Builds an image and upgrades every machine of this app to it, hot"

  @moduledoc """
  Builds the image of this app, and upgrades every machine on Fly.io to its code without restarting one: all of them, or none.

      $ mix fly_deploy.hot
      $ mix fly_deploy.hot --dry-run
      $ mix fly_deploy.hot --canary --bake 5m
      $ mix fly_deploy.hot --skip-build --image registry.fly.io/shop:deployment-01J

  This is `flyhot deploy`: every option is handed over as it is, and mix ends with the exit code of flyhot: 0 all machines run the
  new code, 10 only a cold deploy would do, 11 one failed and all are back, 12 some run it, 20 somebody else deploys, 21 the build
  failed, 23 Fly failed. When mix is ended meanwhile, a window that runs comes to its end and nothing more is begun.

    * `--config FILE` - the app's configuration, fly.toml by default
    * `--skip-build` - build nothing; needs `--image`
    * `--image IMAGE` - an image that is there: nothing is built
    * `--build-arg NAME=VALUE` - a variable of the build; repeatable
    * `--no-cache`, `--buildkit` - handed on to flyctl
    * `--dry-run` - say what would be done, and do nothing
    * `--mode hot` - `blue_green` is not there yet
    * `--max-concurrency COUNT` - machines at once, 20
    * `--sequential` - one machine after the other
    * `--canary` - one machine first, alone
    * `--bake TIME` - for how long it stays alone: `5m`
    * `--check-url URL` - asked of each machine afterwards; `{host}` stands for its host
    * `--timeout MS` - the work on one machine, 60000
    * `--suspend-timeout MS` - how long a busy process is waited for, 10000
    * `--accept CODE` - go on in spite of this reason; `mix fly_deploy.plan` shows them
    * `--policy FILE` - a file of the image that says what is accepted and what is well
    * `--drain-timeout TIME`, `--kill-lingerers` - processes that still run the version before the running one
    * `--window-budget TIME`, `--revert-budget TIME`, `--freeze-attempts COUNT`, `--in-flight COUNT`, `--require-way-back`,
      `--drain-entry`, `--no-rehearsal`, `--no-persist` - how each machine is worked on, as `flyhot upgrade` has them
    * `--no-rollback` - leave upgraded machines as they are when one fails
    * `--memory MB` - of the orchestrator's machine, 1024, or more for a large project
    * `--lock-timeout SECONDS` - how long the lock outlives an orchestrator that dies, 300
    * `--force` - take the lock from whoever holds it
    * `--key-file FILE` - sign with the private key in this file
    * `--output human|json` - how to speak
    * `--report FILE` - write a page of HTML there, however it ends

  `max_concurrency`, `timeout` and `suspend_timeout` of `config :fly_deploy` count where the option is not given. For all options:

      $ mix fly_deploy.hot --help

  flyhot is taken from `FLYHOT_BIN`, else `config :fly_deploy, flyhot: PATH`, else `priv/flyhot` of this package, else `PATH`.
  """

  use Mix.Task

  @impl Mix.Task
  def run(args), do: FlyDeploy.Command.run("deploy", args)
end
