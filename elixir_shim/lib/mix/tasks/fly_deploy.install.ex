defmodule Mix.Tasks.FlyDeploy.Install do
  @shortdoc "Shows what a project needs for hot upgrades, and puts it in with --apply"

  @moduledoc """
  Shows what has to be in the files of a project so that its machines on Fly.io can be upgraded hot and boot what they were upgraded to.

      $ mix fly_deploy.install
      $ mix fly_deploy.install --apply

  Run it where the Dockerfile is. Without `--apply` nothing is written.

    * `mix.exs`: the dependency, where the package lies in `vendor/fly_deploy` and `deps` is one plain list
    * `Dockerfile`: flyhot is taken out of the release into the image, and starts the release by `flyhot boot`
    * `rel/env.sh.eex`: the name of each machine's node, and distribution by IPv6, where `rel/vm.args.eex` has not that already
    * `fly.toml`, or what `fly_config` of `config :fly_deploy` names, and the cookie: told, never written

  What is there already stays as it is, so that a second run changes nothing. A file that is written in another way than this task
  understands is not touched, and neither is another Dockerfile that fly.toml names: it says what to add by hand. A start by `bin/server`
  stays one.
  """

  use Mix.Task

  alias FlyDeploy.Install

  @impl Mix.Task
  def run(args) do
    apply? = options(args)
    Mix.Project.get!()
    project = Mix.Project.config()
    Mix.Task.run("loadconfig")
    fly_toml = fly_toml(Application.get_env(:fly_deploy, :fly_config))
    told = read(fly_toml)
    path = Install.dockerfile_of(told, Path.dirname(fly_toml))
    dockerfile = read(path)

    changes = [
      Install.mix(
        read("mix.exs") || "",
        project,
        File.regular?(Path.join(Install.package(), "mix.exs"))
      ),
      Install.dockerfile(dockerfile, Install.name(project), path),
      Install.env(read("rel/env.sh.eex"), read("rel/vm.args.eex"))
    ]

    for change <- changes do
      say(Install.shown(change))
      if apply?, do: write(change)
    end

    say(Install.told(project, dockerfile, told))

    if not apply? and Enum.any?(changes, &match?({:write, _, _, _}, &1)) do
      say(["", "Nothing was written: `mix fly_deploy.install --apply` does it."])
    end

    :ok
  end

  # A file, or the directory of one.
  defp fly_toml(named) when named in [nil, ""], do: first("")

  defp fly_toml(named) do
    path = to_string(named)
    if File.dir?(path), do: first(path), else: path
  end

  # What flyctl calls it, the first that is there.
  defp first(directory) do
    paths = for name <- ["fly.toml", "fly.json", "fly.yaml"], do: Path.join(directory, name)
    Enum.find(paths, hd(paths), &File.exists?/1)
  end

  defp options(args) do
    case OptionParser.parse(args, strict: [apply: :boolean]) do
      {options, [], []} ->
        Keyword.get(options, :apply, false)

      _ ->
        fail("mix fly_deploy.install takes --apply or nothing, not #{Enum.join(args, " ")}")
    end
  end

  defp say(lines), do: Enum.each(lines, &Mix.shell().info(&1))

  defp read(path) do
    case File.read(path) do
      {:ok, text} -> text
      {:error, :enoent} -> nil
      {:error, reason} -> fail("#{path} cannot be read: #{:file.format_error(reason)}")
    end
  end

  defp write({:write, path, _old, new}) do
    with :ok <- File.mkdir_p(Path.dirname(path)),
         :ok <- File.write(path, new) do
      :ok
    else
      {:error, reason} -> fail("#{path} cannot be written: #{:file.format_error(reason)}")
    end
  end

  defp write(_change), do: :ok

  @spec fail(String.t()) :: no_return()
  defp fail(sentence), do: Mix.raise(sentence, exit_status: 2)
end
