/// How to write an iteration's tensors in another layout.
public struct ExportOptions: Sendable {
    /// The name of the layout, such as `hf`.
    public var layout: String
    /// The most bytes of tensors in one file; nil: the files as they were saved, 50 GB where tensors are put together for `hf`, and else
    /// as many as there are.
    public var maxShardSize: UInt64?
    /// Only tensors whose name this regular expression matches somewhere; nil: all of them.
    public var only: String?
    /// Takes along what only continuing the training needs: the optimizer's state and the like.
    public var all: Bool
    /// A file with rules for other names of the tensors, and for their parts. (Docs/rename.md)
    public var rename: String?
    /// The model's `config.json`, where the iteration has none or another: it is put beside the model, and read for `rename`.
    public var config: String?
    /// What the names of files begin with.
    public var prefix: String?
    /// Leaves the optimizer's state out, where the layout has it along.
    public var withoutOptimizer: Bool
    /// Writes each slice once, instead of for each rank that holds it.
    public var removesRedundancy: Bool
    /// Writes complete tensors, as one rank has them.
    public var isUnified: Bool
    /// The devices that tensors are spread over, such as `dp=2,tp=4`.
    public var mesh: String?
    /// An iteration of MindSpore Transformers 2.0 whose tensors are cut as these shall be.
    public var mapsOf: String?
    /// A file with rules for how tensors are cut. (Docs/tensor-maps.md)
    public var maps: String?
    /// Merges a LoRA adapter into its base, as peft does.
    public var mergesAdapter: Bool
    /// The base of the adapter: an iteration, or a folder; nil: what lies with it, or the folder that its configuration names.
    public var base: String?
    /// Writes an adapter without the model that lies with it.
    public var adapterOnly: Bool
    /// Takes the place of a destination that exists.
    public var force: Bool

    public init(
        layout: String, maxShardSize: UInt64? = nil, only: String? = nil, all: Bool = false,
        rename: String? = nil, config: String? = nil, prefix: String? = nil, withoutOptimizer: Bool = false,
        removesRedundancy: Bool = false, isUnified: Bool = false, mesh: String? = nil, mapsOf: String? = nil,
        maps: String? = nil, mergesAdapter: Bool = false, base: String? = nil, adapterOnly: Bool = false,
        force: Bool = false
    ) {
        self.layout = layout
        self.maxShardSize = maxShardSize
        self.only = only
        self.all = all
        self.rename = rename
        self.config = config
        self.prefix = prefix
        self.withoutOptimizer = withoutOptimizer
        self.removesRedundancy = removesRedundancy
        self.isUnified = isUnified
        self.mesh = mesh
        self.mapsOf = mapsOf
        self.maps = maps
        self.mergesAdapter = mergesAdapter
        self.base = base
        self.adapterOnly = adapterOnly
        self.force = force
    }
}
