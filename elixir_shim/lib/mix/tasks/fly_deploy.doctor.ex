defmodule Mix.Tasks.FlyDeploy.Doctor do
  @shortdoc "Checks whether the nodes of this app can be upgraded"

  @moduledoc """
  Goes the way to each node step by step, and says how to mend what is not well.

      $ mix fly_deploy.doctor
      $ mix fly_deploy.doctor --node shop@10.0.0.1

  This is `flyhot doctor`: every option is handed over as it is, and mix ends with the exit code of flyhot. For all options:

      $ mix fly_deploy.doctor --help

  flyhot is taken from `FLYHOT_BIN`, else `config :fly_deploy, flyhot: PATH`, else `priv/flyhot` of this package, else `PATH`.
  """

  use Mix.Task

  @impl Mix.Task
  def run(args), do: FlyDeploy.Command.run("doctor", args)
end
