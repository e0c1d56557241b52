defmodule FlyDeploy.Components do
  @moduledoc """
  The component that pages have which were made for fly_deploy before flyhot.
  """

  @doc """
  Nothing on the page: a machine that runs keeps its static files, so that there is never a new stylesheet to load.
  """
  @spec hot_reload_css(map()) :: struct()
  def hot_reload_css(_assigns) do
    # Phoenix is there where this is called, and no dependency: its module is asked at run time.
    struct(Phoenix.LiveView.Rendered,
      static: [""],
      dynamic: fn _changed? -> [] end,
      fingerprint: 0,
      root: false
    )
  end
end
