/// The classes and functions that a checkpoint's values are known by, besides those that make tensors.
enum TorchClass {
    case orderedDictionary
    case counter
    case set, frozenSet
    case size
    /// A text and the name of an encoding: how protocols below 3 write bytes.
    case encoded
    /// A text and an encoding, or bytes, or nothing.
    case byteArray
    /// A class, its base and what the base is made with: how protocols 0 and 1 make objects.
    case reconstructor
    /// A class and its arguments.
    case newObject
    /// An object and the name of an attribute: a class in a class.
    case attribute
    case numpyScalar
    case wrapperSubclass
    case deviceMesh
    /// What parameters were until PyTorch 0.3: an object whose state begins with the tensor.
    case variable
    case builder(TorchBuilder)

    /// Of a full name. Protocols below 3 use the names of Python 2.
    private init?(_ name: String) {
        switch name {
        case "collections.OrderedDict", "collections.defaultdict": self = .orderedDictionary
        case "collections.Counter": self = .counter
        case "builtins.set", "__builtin__.set": self = .set
        case "builtins.frozenset", "__builtin__.frozenset": self = .frozenSet
        case "torch.Size": self = .size
        case "_codecs.encode": self = .encoded
        case "builtins.bytearray", "__builtin__.bytearray", "builtins.bytes", "__builtin__.bytes":
            self = .byteArray
        case "copyreg._reconstructor", "copy_reg._reconstructor": self = .reconstructor
        case "copyreg.__newobj__", "copy_reg.__newobj__": self = .newObject
        case "builtins.getattr", "__builtin__.getattr": self = .attribute
        case "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar": self = .numpyScalar
        case "torch._utils._rebuild_wrapper_subclass": self = .wrapperSubclass
        case "torch.distributed.device_mesh.DeviceMesh": self = .deviceMesh
        case "torch.nn.parameter.Parameter", "torch.autograd.variable.Variable": self = .variable
        default:
            guard let builder = TorchBuilder(rawValue: name) else { return nil }
            self = .builder(builder)
        }
    }

    /// The known ones among the globals of a pickle. A pickle names each once, but for those that mean harm.
    static func all(in pickle: Pickle) -> [Pickle.Index: TorchClass] {
        var found: [Pickle.Index: TorchClass] = [:]
        for (index, node) in pickle.nodes.enumerated() {
            guard case .global = node, let name = pickle.globalName(Pickle.Index(index)),
                let known = TorchClass(name)
            else { continue }
            found[Pickle.Index(index)] = known
        }
        return found
    }
}
