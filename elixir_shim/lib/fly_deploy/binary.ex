defmodule FlyDeploy.Binary do
  @moduledoc false
  # Where flyhot is, and whether it is the one that this package goes with. Nothing is taken from a later place because an earlier one
  # is wrong: whoever named a place means that one.

  @version Mix.Project.config()[:version]

  # What the runtime answers for a program that the system did not begin: the number of the system's error, and no word.
  # 8 is ENOEXEC on Linux and on macOS.
  @another_machine 8

  @doc "The program to run; else one sentence with the fix."
  @spec find(keyword()) :: {:ok, Path.t()} | {:error, String.t()}
  def find(config) do
    case place(config) do
      {:ok, path, whence} -> check(path, whence)
      {:error, sentence} -> {:error, sentence}
    end
  end

  defp place(config) do
    {own, on_path} = {own(), System.find_executable("flyhot")}

    cond do
      named = set("FLYHOT_BIN") ->
        {:ok, Path.expand(named), "FLYHOT_BIN"}

      config[:flyhot] != nil ->
        configured(config[:flyhot])

      own && File.exists?(own) ->
        {:ok, own, "the package fly_deploy"}

      on_path ->
        {:ok, on_path, "PATH"}

      true ->
        {:error,
         "flyhot is nowhere: name it by FLYHOT_BIN or `config :fly_deploy, flyhot: PATH`, #{or_build(own)}"}
    end
  end

  defp set(name) do
    case System.get_env(name) do
      "" -> nil
      value -> value
    end
  end

  defp configured(path) when is_binary(path),
    do: {:ok, Path.expand(path), "config :fly_deploy, flyhot:"}

  defp configured(_path),
    do:
      {:error, "`config :fly_deploy, flyhot:` is no text: give it the path of the program flyhot"}

  defp own do
    case :code.priv_dir(:fly_deploy) do
      {:error, :bad_name} -> nil
      directory -> Path.join(directory, "flyhot")
    end
  end

  defp or_build(nil), do: "or have it on PATH"

  defp or_build(own),
    do: "have it on PATH, or put it to #{own}, as `make native` in flyhot's sources does"

  defp check(path, whence) do
    case version(path) do
      {:ok, @version} ->
        {:ok, path}

      {:ok, other} ->
        {:error,
         "#{path} (#{whence}) is flyhot #{other} and the package fly_deploy is #{@version}: " <>
           "install flyhot #{@version}, or take the package of flyhot #{other}"}

      {:error, why} ->
        {:error, "#{path} (#{whence}) #{why}"}
    end
  end

  defp version(path) do
    case System.cmd(path, ["--version"], stderr_to_stdout: true) do
      {"flyhot " <> version, 0} ->
        {:ok, String.trim(version)}

      {"", @another_machine} ->
        {:error,
         "is built for another kind of machine than #{:erlang.system_info(:system_architecture)}: build it for this one"}

      {_, status} ->
        {:error,
         "is no flyhot that runs here (`--version` ended with #{status}): name one by FLYHOT_BIN"}
    end
  rescue
    error in ErlangError -> {:error, unstarted(error.original)}
  end

  defp unstarted(:enoent), do: "is not there: name the program that is, by its whole path"
  defp unstarted(:eacces), do: "may not be run: make it a program by `chmod +x`"
  defp unstarted(other), do: "cannot be started (#{inspect(other)}): name another by FLYHOT_BIN"
end
