defmodule Mix.Tasks.FlyDeploy.Rollback do
  @shortdoc "Takes nodes back to what they ran before"

  @moduledoc """
  Takes nodes back, hot, to what the store says that they ran before.

      $ mix fly_deploy.rollback
      $ mix fly_deploy.rollback --node shop@10.0.0.1 shop@10.0.0.2
      $ mix fly_deploy.rollback --node shop@10.0.0.1 --to 1.4.0

  This is `flyhot rollback`: every option is handed over as it is, and mix ends with the exit code of flyhot: 0 all nodes are back, 12
  some are, 20 somebody else holds the lock. When mix is ended meanwhile, a window that runs comes to its end, and no further node is
  begun; the same command goes on from there. For all options:

      $ mix fly_deploy.rollback --help

  flyhot is taken from `FLYHOT_BIN`, else `config :fly_deploy, flyhot: PATH`, else `priv/flyhot` of this package, else `PATH`.
  """

  use Mix.Task

  @impl Mix.Task
  def run(args), do: FlyDeploy.Command.run("rollback", args)
end
