defmodule FlyDeploy.Json do
  @moduledoc false
  # Plain data as JSON in ASCII, so that no locale changes it on its way through the environment. What has no JSON form is named by
  # the keys that lead to it and never shown: it may be a secret, or hold one.
  #
  # OTP has an encoder from 27 on, Elixir from 1.18; both take what is refused here, a struct or an improper key, in ways of their own.

  @doc "Keyword lists and maps become objects, atoms texts; of a key that is there twice the first counts, as for `Keyword.get/2`."
  @spec encode(term()) :: {:ok, String.t()} | {:error, String.t(), String.t()}
  def encode(term) do
    {:ok, term |> value([]) |> IO.iodata_to_binary()}
  catch
    {:no_form, path, what} -> {:error, Enum.join(Enum.reverse(path), "."), what}
  end

  defp value(nil, _path), do: "null"
  defp value(boolean, _path) when is_boolean(boolean), do: Atom.to_string(boolean)
  defp value(atom, path) when is_atom(atom), do: value(Atom.to_string(atom), path)
  defp value(number, _path) when is_integer(number), do: Integer.to_string(number)
  defp value(number, _path) when is_float(number), do: Float.to_string(number)

  defp value(text, path) when is_binary(text) do
    if String.valid?(text), do: quoted(text), else: no_form(path, "bytes that are no text")
  end

  defp value(%module{}, path), do: no_form(path, "a struct of #{inspect(module)}")
  defp value(map, path) when is_map(map), do: map |> Map.to_list() |> object(path)
  defp value([], _path), do: "[]"

  defp value(list, path) when is_list(list) do
    cond do
      Keyword.keyword?(list) -> object(list, path)
      List.improper?(list) -> no_form(path, "an improper list")
      true -> array(list, path)
    end
  end

  defp value(term, path) when is_function(term), do: no_form(path, "a function")
  defp value(term, path) when is_tuple(term), do: no_form(path, "a tuple")
  defp value(_term, path), do: no_form(path, "a pid, a port, a reference or bits")

  defp array(list, path) do
    items = list |> Enum.with_index(1) |> Enum.map(fn {item, at} -> value(item, [at | path]) end)
    [?[, Enum.intersperse(items, ?,), ?]]
  end

  defp object(pairs, path) do
    members =
      for {key, member} <- Enum.uniq_by(pairs, &name(&1, path)) do
        name = name({key, member}, path)
        [quoted(name), ?:, value(member, [name | path])]
      end

    [?{, Enum.intersperse(members, ?,), ?}]
  end

  defp name({key, _}, _path) when is_atom(key), do: Atom.to_string(key)

  defp name({key, _}, path) do
    if is_binary(key) and String.valid?(key),
      do: key,
      else: no_form(path, "a map with a key that is neither an atom nor a text")
  end

  defp quoted(text), do: [?", for(<<char::utf8 <- text>>, do: char(char)), ?"]

  defp char(char) when char in [?", ?\\], do: [?\\, char]
  defp char(char) when char in ?\s..?~, do: char
  defp char(char) when char < 0x10000, do: unit(char)

  defp char(char) do
    above = char - 0x10000
    [unit(0xD800 + div(above, 0x400)), unit(0xDC00 + rem(above, 0x400))]
  end

  defp unit(unit), do: ["\\u", unit |> Integer.to_string(16) |> String.pad_leading(4, "0")]

  @spec no_form([String.t() | pos_integer()], String.t()) :: no_return()
  defp no_form(path, what), do: throw({:no_form, path, what})
end
