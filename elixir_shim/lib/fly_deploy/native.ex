defmodule FlyDeploy.Native do
  @moduledoc """
  What a node can know of beams and artifacts without starting a program: pure functions of a library in Rust, on dirty schedulers.

  Nothing here starts a process, keeps anything or asks a network. Where the library is missing the module is there all the same,
  and every function but `available?/0` raises and says where it was looked for. A panic in the library is raised as
  `ErlangError` with `:nif_panicked`.

  The library stays the one that was loaded first: a changed `FlyDeploy.Native` is not taken in by a node that runs, and goes on as
  it was.
  """

  @on_load :load
  @library "fly_deploy_native"

  @typedoc "A module's name, with `Elixir.`, and its md5, 16 bytes."
  @type loaded :: {String.t(), <<_::128>>}

  @typedoc "A text of public keys; `nil` asks for none."
  @type keys :: String.t() | nil

  @typedoc "An artifact that was checked."
  @type artifact :: %{
          digest: String.t(),
          size: non_neg_integer(),
          manifest_digest: String.t(),
          code_id: String.t(),
          release: String.t(),
          version: String.t(),
          files: non_neg_integer(),
          signed_by: String.t() | nil
        }

  @doc false
  def load do
    case :erlang.load_nif(String.to_charlist(library()), 0) do
      :ok -> :ok
      # Without it the module says so when it is asked.
      {:error, {:load_failed, _}} -> :ok
      {:error, reason} -> {:error, reason}
    end
  end

  @doc "Whether the library is there."
  @spec available?() :: boolean()
  def available? do
    match?({:ok, _}, code_id([]))
  rescue
    ErlangError -> false
  end

  @doc "What the bytes of a beam file say of their module."
  @spec beam_facts(binary()) ::
          {:ok,
           %{
             module: String.t(),
             md5: <<_::128>>,
             exports: [String.t()],
             vsn: String.t(),
             on_load: boolean(),
             loads_nif: boolean()
           }}
          | {:error, String.t()}
  def beam_facts(_bytes), do: missing()

  @doc "The code id of modules with their md5s, 64 hex digits."
  @spec code_id([loaded()]) :: {:ok, String.t()} | {:error, String.t()}
  def code_id(_loaded), do: missing()

  @doc "What differs between a manifest, as it lies in an artifact, and modules that are loaded."
  @spec diff(binary(), [loaded()]) ::
          {:ok, %{changed: [String.t()], added: [String.t()], unchanged: non_neg_integer()}}
          | {:error, String.t()}
  def diff(_manifest, _loaded), do: missing()

  @doc """
  Checks every byte of the artifact in `file`, and that one of `keys` signed it; `signature` is the text of its `.sig` file.
  """
  @spec verify(Path.t(), keys(), String.t() | nil) :: {:ok, artifact()} | {:error, String.t()}
  def verify(_file, _keys, _signature), do: missing()

  @doc "Does the same, and unpacks it to `directory`, which is absent or empty: whole, or not at all."
  @spec unpack(Path.t(), Path.t(), keys(), String.t() | nil) ::
          {:ok, artifact()} | {:error, String.t()}
  def unpack(_file, _directory, _keys, _signature), do: missing()

  defp missing do
    :erlang.nif_error(
      {:library_missing, library() <> ".so", "run `make native` where it was built"}
    )
  end

  defp library do
    case :code.priv_dir(:fly_deploy) do
      {:error, :bad_name} -> @library
      directory -> Path.join(directory, @library)
    end
  end
end
