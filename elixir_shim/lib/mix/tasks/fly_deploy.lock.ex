defmodule Mix.Tasks.FlyDeploy.Lock do
  @shortdoc "Shows or lets go the lock of this app"

  @moduledoc """
  Shows who holds the lock of the app, or lets it go for somebody who cannot any more.

      $ mix fly_deploy.lock status
      $ mix fly_deploy.lock release

  This is `flyhot lock`: every option is handed over as it is, and mix ends with the exit code of flyhot. For all options:

      $ mix fly_deploy.lock --help

  flyhot is taken from `FLYHOT_BIN`, else `config :fly_deploy, flyhot: PATH`, else `priv/flyhot` of this package, else `PATH`.
  """

  use Mix.Task

  @impl Mix.Task
  def run(args), do: FlyDeploy.Command.run("lock", args)
end
