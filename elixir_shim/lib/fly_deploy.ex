defmodule FlyDeploy do
  @moduledoc """
  What an application has in its supervision tree that was made for fly_deploy before flyhot: it starts unchanged.

      children = [
        {FlyDeploy, otp_app: :my_app},
        # ...
      ]

  There is nothing to be started. fly_deploy asks the bucket every second from there, and loads what it finds before the other children
  start; here the nodes are told, and `flyhot boot` has done its part before the release begins. So the child may go, and need not.
  """

  @doc """
  A child that is not there: no process, and none to be restarted. Its options are those of fly_deploy, and none is read.
  """
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(options) do
    %{id: __MODULE__, start: {__MODULE__, :start_link, [options]}, restart: :temporary}
  end

  @doc false
  @spec start_link(keyword()) :: :ignore
  def start_link(_options), do: :ignore

  @doc """
  What `Application.start/2` called before there was a child: nothing is left to be applied when it is called.
  """
  @spec startup_reapply_current(atom(), keyword()) :: :ok
  def startup_reapply_current(_app, _options \\ []), do: :ok
end
