defmodule Mix.Tasks.FlyDeploy.Config do
  @shortdoc "Shows what flyhot is told here, and by whom"

  @moduledoc """
  Shows every value that flyhot has here: from arguments, `config :fly_deploy`, fly.toml and the environment.

      $ mix fly_deploy.config
      $ mix fly_deploy.config --explain

  This is `flyhot config`: every option is handed over as it is, and mix ends with the exit code of flyhot. For all options:

      $ mix fly_deploy.config --help

  flyhot is taken from `FLYHOT_BIN`, else `config :fly_deploy, flyhot: PATH`, else `priv/flyhot` of this package, else `PATH`.
  """

  use Mix.Task

  @impl Mix.Task
  def run(args), do: FlyDeploy.Command.run("config", args)
end
