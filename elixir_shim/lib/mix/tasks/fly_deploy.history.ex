defmodule Mix.Tasks.FlyDeploy.History do
  @shortdoc "Shows what this app should run, and what it ran before"

  @moduledoc """
  Shows what the store says that the app should run, and what it ran before.

      $ mix fly_deploy.history
      $ mix fly_deploy.history --bucket shop-releases --output json

  This is `flyhot history`: every option is handed over as it is, and mix ends with the exit code of flyhot. For all options:

      $ mix fly_deploy.history --help

  flyhot is taken from `FLYHOT_BIN`, else `config :fly_deploy, flyhot: PATH`, else `priv/flyhot` of this package, else `PATH`.
  """

  use Mix.Task

  @impl Mix.Task
  def run(args), do: FlyDeploy.Command.run("history", args)
end
