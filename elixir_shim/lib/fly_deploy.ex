defmodule FlyDeploy do
  @moduledoc """
  What an application has in its supervision tree that was made for fly_deploy before flyhot: it starts unchanged.

      children = [
        {FlyDeploy, otp_app: :my_app},
        # ...
      ]

  There is nothing to be started. fly_deploy asks the bucket every second from there, and loads what it finds before the other children
  start; here the nodes are told, and `flyhot boot` has done its part before the release begins. So the child may go, and need not.

  The other functions answer as fly_deploy does where its poller was not started and no node is a peer.
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

  @doc """
  No version: a node does not know how its code came there. `flyhot status` says what it runs.
  """
  @spec current_vsn() :: nil
  def current_vsn, do: nil

  @doc """
  Messages about deploys: none ever comes, since nothing on a node knows of a deploy.
  """
  @spec subscribe() :: :ok
  def subscribe, do: :ok

  @doc "The peer that this one takes the place of: there is none, nodes are upgraded where they are."
  @spec outgoing_peer() :: nil
  def outgoing_peer, do: nil

  @doc "The peer that takes the place of this one: there is none."
  @spec incoming_peer() :: nil
  def incoming_peer, do: nil

  @doc "The peer of this machine: there is none."
  @spec peer_node() :: nil
  def peer_node, do: nil

  @doc "The peers of other machines: there are none."
  @spec list_remote_peers() :: []
  def list_remote_peers, do: []

  @doc "The machines whose nodes have peers: there are none."
  @spec blue_green_cluster_status(atom()) :: []
  def blue_green_cluster_status(_app), do: []
end
