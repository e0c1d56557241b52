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

  # It is in the release as every application's priv is. One that is for another machine ends the build, and not the start.
  @copied "RUN install -m 755 /app/lib/fly_deploy-*/priv/flyhot #{@binary} && flyhot --version"

  # By its path: the name alone is that of another package.
  @package "vendor/fly_deploy"
  @entry ~s({:fly_deploy, path: "#{@package}"})
  @umbrella_entry ~s({:fly_deploy, path: "../../#{@package}"})

  @env "rel/env.sh.eex"

  @doc "The change of the Dockerfile `text` of a release called `name`; one that lies elsewhere is told of, never written."
  @spec dockerfile(String.t() | nil, String.t(), Path.t()) :: change()
  def dockerfile(text, name, path \\ "Dockerfile")
  def dockerfile(nil, name, path), do: in_dockerfile(path, "there is none", [], name)

  def dockerfile(text, name, path) do
    lines = String.split(text, "\n")
    {before, stage} = Enum.split(lines, (last(lines, ~r/^\s*FROM\s/i) || -1) + 1)

    case edited(stage) do
      {:ok, ^stage} ->
        {:done, path}

      {:ok, edited} when path == "Dockerfile" ->
        {:write, path, text, Enum.join(before ++ edited, "\n")}

      {:ok, _} ->
        in_dockerfile(path, "fly.toml names it, and ./Dockerfile alone is changed", stage, name)

      {:error, why} ->
        in_dockerfile(path, why, stage, name)
    end
  end

  @doc "The Dockerfile that the text of a fly.toml in `directory` names, or of a fly.json or fly.yaml."
  @spec dockerfile_of(String.t() | nil, Path.t()) :: Path.t()
  def dockerfile_of(fly_toml, directory) do
    # The key as TOML writes it, in a table of its own or within one, and as JSON and YAML do.
    key =
      ~r/^(?!\h*#)(?:.*[{,\h])?["']?dockerfile["']?\h*[=:]\h*(?|["']([^"'\n]+)["']|([^"'\s,}]+))/m

    case Regex.run(key, fly_toml || "") do
      [_, named] -> named |> Path.expand(directory) |> Path.relative_to_cwd()
      nil -> "Dockerfile"
    end
  end

  @doc "The change of `rel/env.sh.eex`, beside `rel/vm.args.eex`."
  @spec env(String.t() | nil, String.t() | nil) :: change()
  def env(text, vm_args \\ nil) do
    own = text || "#!/bin/sh\n"
    both = own <> "\n" <> (vm_args || "")
    missing = for {wanted, where, line} <- wanted(own, both), not (where =~ wanted), do: line

    cond do
      missing == [] ->
        {:done, @env}

      sets?(own, "(RELEASE_DISTRIBUTION|RELEASE_NODE|ERL_AFLAGS)") or other_proto(both) != nil ->
        why = "it sets some of these variables in a way of its own"
        {:by_hand, @env, why, missing}

      true ->
        {:write, @env, text, String.trim_trailing(own, "\n") <> "\n\n" <> block(missing)}
    end
  end

  # OTP takes `-proto_dist` only where it is given once, by whatever variable or file: with two it is as if there were none.
  defp wanted(own, both) do
    [
      {~r/^\s*(export\s+)?RELEASE_DISTRIBUTION="?name"?\s*$/m, own,
       ~s(export RELEASE_DISTRIBUTION="name")},
      {~r/^\s*(export\s+)?RELEASE_NODE=\S*FLY_PRIVATE_IP/m, own,
       ~s(export RELEASE_NODE="${FLY_APP_NAME}@${FLY_PRIVATE_IP}")},
      {~r/^(?!\h*#).*-proto_dist\h+(?!inet_)\S/m, both, proto(own, both)}
    ]
  end

  defp proto(own, both) do
    cond do
      other = other_proto(both) ->
        "-proto_dist inet6_#{other} in place of -proto_dist inet_#{other}: given twice it does not count"

      sets?(own, "ERL_AFLAGS") ->
        ~S(export ERL_AFLAGS="-proto_dist inet6_tcp${ERL_AFLAGS:+ $ERL_AFLAGS}")

      true ->
        ~s(export ERL_AFLAGS="-proto_dist inet6_tcp")
    end
  end

  defp other_proto(both) do
    with [_, kind] <- Regex.run(~r/^(?!\h*#).*-proto_dist\h+inet_(\w+)/m, both), do: kind
  end

  defp sets?(text, name), do: text =~ ~r/^[^#\n]*\b#{name}=/m

  defp block(lines) do
    """
    if [ -n "$FLY_APP_NAME" ]; then
      # A machine keeps its name when its image changes, and is reached by IPv6 alone.
      #{Enum.join(lines, "\n  ")}
    fi
    """
  end

  defp in_dockerfile(path, why, stage, name),
    do: {:by_hand, path, why, [@copied, start(stage, name)]}

  # What starts the release stays what starts it: `bin/server` sets what a bare `start` does not.
  defp start(stage, name) do
    with at when at != nil <- last(stage, ~r/^\s*CMD\s/i),
         false <- goes_on?(stage, at),
         {:ok, _, words} <- words(at, Enum.at(stage, at)) do
      if words == :boots, do: String.trim(Enum.at(stage, at)), else: command(words)
    else
      _ ->
        server? = Enum.any?(stage, &(&1 =~ ~r/^[^#]*\/app\/bin\/server\b/))
        command(if server?, do: ["/app/bin/server"], else: ["/app/bin/#{name}", "start"])
    end
  end

  # Whether the line before goes on with this one.
  defp goes_on?(stage, at), do: at > 0 and Enum.at(stage, at - 1) =~ ~r/\\\s*$/

  defp command(words) do
    quoted = Enum.map_join(["flyhot", "boot", "--" | words], ", ", &~s("#{&1}"))
    "CMD [#{quoted}]"
  end

  # The last stage: nothing of it is moved, one line is put in and one replaced.
  defp edited(stage) do
    with {:ok, at, words} <- cmd(stage),
         {:ok, place} <- place(stage, at) do
      stage = if words == :boots, do: stage, else: List.replace_at(stage, at, command(words))
      {:ok, if(place == :there, do: stage, else: List.insert_at(stage, place, @copied))}
    end
  end

  defp cmd(stage) do
    at = for {line, at} <- Enum.with_index(stage), line =~ ~r/^\s*CMD\s/i, do: at

    cond do
      Enum.any?(stage, &(&1 =~ ~r/^\s*ENTRYPOINT\s/i)) ->
        {:error, "its last stage has an ENTRYPOINT"}

      Enum.any?(stage, &(&1 =~ ~r/<<-?["']?\w/)) ->
        {:error, "its last stage has a text within it (<<)"}

      Enum.any?(at, &goes_on?(stage, &1)) ->
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

      goes_on?(stage, before) ->
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
      # What the umbrella itself depends on is in no release.
      project[:apps_path] != nil ->
        why = "this is an umbrella, and an application that is released has to depend on it"
        {:by_hand, "mix.exs", why, [@umbrella_entry]}

      Enum.any?(project[:deps] || [], &(elem(&1, 0) == :fly_deploy)) ->
        {:done, "mix.exs"}

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
    [before | _] = String.split(text, ~r/^(?!\h*#).*\bmix\h+release\b/m, parts: 2)

    if before =~ ~r/^\h*(COPY|ADD)\h+(\S+\h+)*((\.\/)?rel\/?|\.\/?)\h+\S/im,
      do: [],
      else: [
        "Dockerfile: rel/env.sh.eex comes into the release only from there, before `mix release`:",
        "    COPY rel rel"
      ]
  end

  # They take the place of the image's CMD.
  defp processes(nil), do: []

  defp processes(text) do
    if text =~ ~r/^\s*(\[processes\]|cmd\s*=|["']?processes["']?\s*[:=]\s*\{)|^processes:\h*$/m,
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
