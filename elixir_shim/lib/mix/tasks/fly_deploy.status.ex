defmodule Mix.Tasks.FlyDeploy.Status do
  @shortdoc "Shows what the nodes of this app run"

  @moduledoc """
  Shows what nodes run: their code, where it differs, old code and who runs it, who is suspended, an upgrade under way, how the last
  one ended. It loads nothing there and changes nothing.

      $ mix fly_deploy.status
      $ mix fly_deploy.status --node shop@10.0.0.1 --node shop@10.0.0.2
      $ mix fly_deploy.status --node shop@10.0.0.1 --output json

  This is `flyhot status`: every option is handed over as it is, and mix ends with the exit code of flyhot. For all options:

      $ mix fly_deploy.status --help

  flyhot is taken from `FLYHOT_BIN`, else `config :fly_deploy, flyhot: PATH`, else `priv/flyhot` of this package, else `PATH`.
  """

  use Mix.Task

  @impl Mix.Task
  def run(args), do: FlyDeploy.Command.run("status", args)
end
