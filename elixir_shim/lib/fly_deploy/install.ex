defmodule FlyDeploy.Install do
  @moduledoc false
  # What has to be in a project's files so that its machines can be upgraded hot, as pure functions from texts to texts.
  #
  # A text is changed only where all of it that matters is understood: a Dockerfile by its last stage and its CMD of words, an env.sh.eex
  # that sets none of our variables, a mix.exs by a `deps` that is one list. Of any other it is said what to add by hand.

  @typedoc "What is to be done about a file; `nil` is one that is not there."
  @type change ::
          {:done, Path.t()}
          | {:write, Path.t(), String.t() | nil, String.t()}
          | {:by_hand, Path.t(), String.t(), [String.t()]}

  @binary "/usr/local/bin/flyhot"

  # It is in the release as every application's priv is, for the machine that the image is of.
  @copied "RUN install -m 755 /app/lib/fly_deploy-*/priv/flyhot #{@binary}"

  # By its path: the name alone is that of another package.
  @package "vendor/fly_deploy"
  @entry ~s({:fly_deploy, path: "#{@package}"})

  @env """
  if [ -n "$FLY_APP_NAME" ]; then
    # A machine keeps its name when its image changes, and is reached by IPv6 alone.
    export RELEASE_DISTRIBUTION="name"
    export RELEASE_NODE="${FLY_APP_NAME}@${FLY_PRIVATE_IP}"
    export ERL_AFLAGS="-proto_dist inet6_tcp"
  fi
  """

  @doc "The change of the Dockerfile `text` of a release called `name`."
  @spec dockerfile(String.t() | nil, String.t()) :: change()
  def dockerfile(nil, name), do: in_dockerfile("there is none", name)

  def dockerfile(text, name) do
    lines = String.split(text, "\n")

    case edited(lines) do
      {:ok, ^lines} -> {:done, "Dockerfile"}
      {:ok, edited} -> {:write, "Dockerfile", text, Enum.join(edited, "\n")}
      {:error, why} -> in_dockerfile(why, name)
    end
  end

  @doc "The change of `rel/env.sh.eex`."
  @spec env(String.t() | nil) :: change()
  def env(nil), do: {:write, "rel/env.sh.eex", nil, "#!/bin/sh\n\n" <> @env}

  def env(text) do
    case Enum.map(env_lines(), fn {wanted, _} -> Regex.match?(wanted, text) end) do
      [true, true, true] -> {:done, "rel/env.sh.eex"}
      _ -> if sets_any?(text), do: env_by_hand(text), else: appended(text)
    end
  end

  defp env_lines do
    [
      {~r/^\s*(export\s+)?RELEASE_DISTRIBUTION="?name"?\s*$/m,
       ~s(export RELEASE_DISTRIBUTION="name")},
      {~r/^\s*(export\s+)?RELEASE_NODE=\S*FLY_PRIVATE_IP/m,
       ~s(export RELEASE_NODE="${FLY_APP_NAME}@${FLY_PRIVATE_IP}")},
      {~r/^\s*(export\s+)?ERL_AFLAGS=.*-proto_dist\s+inet6_t/m,
       ~s(export ERL_AFLAGS="-proto_dist inet6_tcp")}
    ]
  end

  defp sets_any?(text),
    do: Regex.match?(~r/^[^#\n]*\b(RELEASE_DISTRIBUTION|RELEASE_NODE|ERL_AFLAGS)=/m, text)

  defp appended(text) do
    {:write, "rel/env.sh.eex", text, String.trim_trailing(text, "\n") <> "\n\n" <> @env}
  end

  defp env_by_hand(text) do
    lines = for {wanted, line} <- env_lines(), not Regex.match?(wanted, text), do: line
    {:by_hand, "rel/env.sh.eex", "it sets some of these variables in a way of its own", lines}
  end

  defp in_dockerfile(why, name) do
    {:by_hand, "Dockerfile", why, [@copied, command(["/app/bin/#{name}", "start"])]}
  end

  defp command(words) do
    quoted = Enum.map_join(["flyhot", "boot", "--" | words], ", ", &~s("#{&1}"))
    "CMD [#{quoted}]"
  end

  # The last stage: nothing of it is moved, one line is put in and one replaced.
  defp edited(lines) do
    from = last(lines, ~r/^\s*FROM\s/i) || -1
    stage = Enum.drop(lines, from + 1)

    with {:ok, at, words} <- cmd(stage),
         {:ok, place} <- place(stage, at) do
      stage = if words == :boots, do: stage, else: List.replace_at(stage, at, command(words))
      stage = if place == :there, do: stage, else: List.insert_at(stage, place, @copied)
      {:ok, Enum.take(lines, from + 1) ++ stage}
    end
  end

  defp cmd(stage) do
    at = for {line, at} <- Enum.with_index(stage), line =~ ~r/^\s*CMD\s/i, do: at

    cond do
      Enum.any?(stage, &(&1 =~ ~r/^\s*ENTRYPOINT\s/i)) ->
        {:error, "its last stage has an ENTRYPOINT"}

      Enum.any?(stage, &(&1 =~ ~r/<<-?["']?\w/)) ->
        {:error, "its last stage has a text within it (<<)"}

      Enum.any?(at, &(Enum.at(stage, &1 - 1, "") =~ ~r/\\\s*$/ and &1 > 0)) ->
        {:error, "a CMD of its last stage belongs to the line before"}

      length(at) != 1 ->
        {:error, "its last stage has not one CMD"}

      true ->
        words(hd(at), Enum.at(stage, hd(at)))
    end
  end

  # A path of a release, and plain words: what would have to be escaped is left alone.
  defp words(at, line) do
    with [_, list] <- Regex.run(~r/^\s*CMD\s*\[(.*)\]\s*$/i, line),
         words when words != nil <- plain(String.split(list, ",")) do
      case words do
        ["flyhot", "boot" | _] -> {:ok, at, :boots}
        ["/app/bin/" <> _ | _] -> {:ok, at, words}
        _ -> {:error, "its CMD starts no program of /app/bin"}
      end
    else
      _ -> {:error, "its CMD is no plain list of words on one line"}
    end
  end

  defp plain(words) do
    plain = for word <- words, [_, text] <- [Regex.run(~r/^\s*"([^"\\]*)"\s*$/, word)], do: text
    if length(plain) == length(words), do: plain
  end

  # Behind what brings the release, and before root is left.
  defp place(stage, cmd) do
    user = Enum.find_index(stage, &(&1 =~ ~r/^\s*USER\s/i)) || cmd
    before = min(user, cmd)

    cond do
      Enum.any?(stage, &(&1 =~ ~r/^[^#]*#{@binary}/)) ->
        {:ok, :there}

      before <= (last(stage, ~r/^\s*(COPY|ADD)\s/i) || before) ->
        {:error, "its last stage copies nothing in while it is root, or copies on behind"}

      Enum.at(stage, before - 1, "") =~ ~r/\\\s*$/ ->
        {:error, "a line goes on where ours would have to be"}

      true ->
        {:ok, before}
    end
  end

  defp last(lines, pattern) do
    lines
    |> Enum.with_index()
    |> Enum.reverse()
    |> Enum.find_value(fn {line, at} -> if line =~ pattern, do: at end)
  end

  @doc "The change of the mix.exs `text` of a project; `there?` is whether the package lies in it."
  @spec mix(String.t(), keyword(), boolean()) :: change()
  def mix(text, project, there?) do
    cond do
      Enum.any?(project[:deps] || [], &(elem(&1, 0) == :fly_deploy)) ->
        {:done, "mix.exs"}

      project[:apps_path] != nil ->
        in_mix("this is an umbrella, and an application that is released has to depend on it")

      not there? ->
        # The line alone would end whatever mix does next.
        in_mix("flyhot's elixir_shim is to be copied to #{@package} first")

      true ->
        case depends(text) do
          {:ok, new} -> {:write, "mix.exs", text, new}
          :error -> in_mix("its dependencies are not one plain list in `deps`")
        end
    end
  end

  defp in_mix(why), do: {:by_hand, "mix.exs", why, [@entry]}

  # As the first of a list whose bracket ends its line, so that no other line changes; what came of it is read again.
  defp depends(text) do
    plain = ~r/\A(.*^\h*defp? deps(?:\(\))? do\n(\h*)\[)(\n.*|\].*)\z/ms

    with false <- text =~ ~r/:fly_deploy\b/,
         true <- text =~ ~r/\bdeps: deps\b/,
         {:ok, old} <- deps(text),
         [_, head, indent, rest] <- Regex.run(plain, text),
         new = head <> "\n" <> indent <> "  " <> @entry <> behind(old, indent, rest),
         {:ok, [{:fly_deploy, [path: @package]} | others]} when length(others) == length(old) <-
           deps(new) do
      {:ok, new}
    else
      _ -> :error
    end
  end

  defp behind([], indent, "]" <> rest), do: "\n" <> indent <> "]" <> rest
  defp behind([], _indent, rest), do: rest
  defp behind(_others, _indent, rest), do: "," <> rest

  # What `deps` is, where it is there once and is a list.
  defp deps(text) do
    with {:ok, quoted} <- Code.string_to_quoted(text),
         {_, [list]} when is_list(list) <- Macro.prewalk(quoted, [], &deps/2) do
      {:ok, list}
    else
      _ -> :error
    end
  end

  defp deps({kind, _, [{:deps, _, _}, [{:do, body}]]} = node, found) when kind in [:def, :defp],
    do: {node, [body | found]}

  defp deps(node, found), do: {node, found}

  @doc "Where the package is looked for."
  @spec package() :: Path.t()
  def package, do: @package

  @doc "The name of what is released."
  @spec name(keyword()) :: String.t()
  def name(project) do
    case project[:releases] do
      [{name, _} | _] -> to_string(name)
      _ -> to_string(project[:app] || "NAME")
    end
  end

  @doc "What is to be done besides, and never by this task."
  @spec told(keyword(), String.t() | nil, String.t() | nil) :: [String.t()]
  def told(project, dockerfile, fly_toml) do
    ours = {:fly_deploy, path: @package}
    package = Enum.find(project[:deps] || [], ours, &(elem(&1, 0) == :fly_deploy))

    Enum.concat([
      source(package, dockerfile),
      overlay(dockerfile),
      processes(fly_toml),
      cookie(project)
    ])
  end

  # What is not in the image yet when dependencies are asked for is missing to them.
  defp source({:fly_deploy, options}, dockerfile)
       when is_list(options) and is_binary(dockerfile) do
    with path when is_binary(path) <- options[:path],
         [before, _] <- String.split(dockerfile, ~r/\bdeps\.get\b/, parts: 2),
         [first | _] when first not in ["/", ".."] <- Path.split(path),
         copied =
           ~r/^\h*(COPY|ADD)\h+(\S+\h+)*(\.\/)?(#{Regex.escape(first)}(\/\S*)?|\.\/?)\h+\S/im,
         false <- before =~ copied do
      [
        "Dockerfile: the package comes into the image only from there, before `mix deps.get`:",
        "    COPY #{path} #{path}"
      ]
    else
      _ -> []
    end
  end

  defp source(_, _), do: []

  defp overlay(nil), do: []

  defp overlay(text) do
    if text =~ ~r/^\s*(COPY|ADD)\s+(\S+\s+)*\.?\/?(rel|\.)\/?\s/im,
      do: [],
      else: [
        "Dockerfile: rel/env.sh.eex comes into the release only from there, before `mix release`:",
        "    COPY rel rel"
      ]
  end

  # They take the place of the image's CMD.
  defp processes(nil), do: []

  defp processes(text) do
    if text =~ ~r/^\s*(\[processes\]|cmd\s*=)/m,
      do: [
        "fly.toml: it names commands of its own; each that starts the release needs `flyhot boot -- ` before it"
      ],
      else: []
  end

  defp cookie(project) do
    fixed? = fn {_, options} -> is_list(options) and options[:cookie] != nil end

    if Enum.any?(project[:releases] || [], fixed?) do
      []
    else
      [
        "The cookie: each build of an image makes one of its own, which the one before refuses; one for all of them, once:",
        ~S|    fly secrets set RELEASE_COOKIE="$(openssl rand -hex 32)"|
      ]
    end
  end

  @doc "The lines that a change takes away and brings, for people."
  @spec shown(change()) :: [String.t()]
  def shown({:done, path}), do: ["#{path}: is as it should be"]

  def shown({:by_hand, path, why, lines}) do
    ["#{path}: #{why}; by hand:" | Enum.map(lines, &("    " <> &1))]
  end

  def shown({:write, path, old, new}) do
    difference = List.myers_difference(lines(old), lines(new))
    heading = if old, do: "#{path}:", else: "#{path}: a new file"

    [
      heading
      | for(
          {kind, lines} <- difference,
          kind != :eq,
          line <- lines,
          do: "  #{sign(kind)} #{line}"
        )
    ]
  end

  defp lines(nil), do: []
  defp lines(text), do: text |> String.trim_trailing("\n") |> String.split("\n")

  defp sign(:del), do: "-"
  defp sign(:ins), do: "+"
end
