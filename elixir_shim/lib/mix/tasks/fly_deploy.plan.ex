defmodule Mix.Tasks.FlyDeploy.Plan do
  @shortdoc "Says whether a release can be taken over hot; changes no code and no state"

  @moduledoc """
  Says what an upgrade of running nodes would do, and whether it would be done: `hot`, `hot with warnings` or `cold`, with every reason.
  It changes no code and no state of a node. With `--image` one machine of that image is made for it, which removes itself.

      $ mix fly_deploy.plan --image registry.fly.io/shop:deployment-01J
      $ mix fly_deploy.plan --node shop@10.0.0.1 --release _build/prod/rel/shop

  This is `flyhot plan`: every option is handed over as it is, and mix ends with the exit code of flyhot, 10 where only a cold deploy
  would do. The release is one that is there already: nothing is built. For all options:

      $ mix fly_deploy.plan --help

  flyhot is taken from `FLYHOT_BIN`, else `config :fly_deploy, flyhot: PATH`, else `priv/flyhot` of this package, else `PATH`.
  """

  use Mix.Task

  @impl Mix.Task
  def run(args), do: FlyDeploy.Command.run("plan", args)
end
