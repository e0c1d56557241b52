defmodule FlyDeploy.Command do
  @moduledoc false
  # What every mix task does: it reads the project, finds flyhot and hands over. No task knows an option of flyhot or decides anything.
  #
  # The project is neither compiled nor started for that, and `config/runtime.exs` is not read: that is of the machines.

  # Linux takes no variable of more than 32 pages, its name and the byte behind it among them (execve(2)).
  @longest 32 * 4096 - byte_size("FLYHOT_MIX=") - 1

  # What the runtime answers for a program that the system did not begin is the number of the system's error: E2BIG, on Linux and on
  # macOS. flyhot never ends with it.
  @unbegun 7

  @doc "Runs the verb of flyhot with these arguments, and ends as it does."
  @spec run(String.t(), [String.t()]) :: :ok
  def run(verb, args) do
    Mix.Task.run("loadconfig")
    config = Application.get_all_env(:fly_deploy)

    with {:ok, project} <- project(config),
         {:ok, path} <- FlyDeploy.Binary.find(config),
         {:ok, status} <- hand_over(path, [verb | args], project) do
      # Mix ends with it, whatever called the task, and runs what is to be run at its end.
      if status == 0, do: :ok, else: exit({:shutdown, status})
    else
      {:error, sentence} -> Mix.raise(sentence, exit_status: 2)
    end
  end

  defp project(config) do
    Mix.Project.get!()
    project = Mix.Project.config()
    told = %{v: 1, app: project[:app], version: project[:version], config: Map.new(config)}

    case FlyDeploy.Json.encode(told) do
      {:ok, json} when byte_size(json) <= @longest ->
        {:ok, json}

      {:ok, json} ->
        {:error,
         "`config :fly_deploy` is #{byte_size(json)} bytes long as JSON, and #{@longest} can be handed over: " <>
           "take out what is not flyhot's"}

      {:error, path, what} ->
        {:error,
         "what `config :fly_deploy` has at `#{String.replace_prefix(path, "config.", "")}` is #{what}, which flyhot cannot be told: " <>
           "make it a text, a number, a list or a map"}
    end
  end

  # The program keeps the three streams of mix, so that it draws on the terminal itself; the port has descriptors 3 and 4, and nothing
  # is sent there. The runtime keeps ^C, and gives its programs sessions of their own: that mix ended is heard by the end of 3.
  defp hand_over(path, args, project) do
    env = [{~c"FLYHOT_MIX", String.to_charlist(project)}, {~c"FLYHOT_PORT", ~c"1"}]
    options = [:nouse_stdio, :exit_status, args: Enum.map(args, &as_typed/1), env: env]
    port = Port.open({:spawn_executable, path}, options)

    receive do
      {^port, {:exit_status, @unbegun}} ->
        {:error,
         "what was typed, `config :fly_deploy` and the environment are together longer than the system hands to a program: " <>
           "take out what flyhot does not need"}

      {^port, {:exit_status, status}} ->
        {:ok, status}
    end
  end

  # Where the locale knows no UTF-8 the runtime takes each byte of an argument for a letter of Latin-1.
  defp as_typed(arg) do
    with :latin1 <- :file.native_name_encoding(),
         bytes when is_binary(bytes) <- :unicode.characters_to_binary(arg, :utf8, :latin1) do
      bytes
    else
      _ -> arg
    end
  end
end
