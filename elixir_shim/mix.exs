defmodule FlyDeploy.MixProject do
  use Mix.Project

  def project do
    [
      app: :fly_deploy,
      version: "0.1.0",
      elixir: "~> 1.14",
      description: "Hot code upgrades by flyhot: the Elixir side",
      deps: []
    ]
  end

  def application do
    [extra_applications: [:logger]]
  end
end
