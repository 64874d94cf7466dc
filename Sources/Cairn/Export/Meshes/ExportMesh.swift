internal import Platform
internal import TensorFormats

/// The ranks that an export is for, and how each tensor is spread over them.
struct ExportMesh {
    /// What says how tensors are cut.
    private enum Source {
        /// They are not.
        case none
        case rules(TensorMapRules)
        /// As the tensors of another iteration are, or of this one.
        case tensors([ExactText: MindFormersMetadata.Tensor])
    }

    let rankCount: Int
    /// Of which the cuts say nothing of devices; nil where layouts are taken as they are.
    private let mesh: DeviceMesh?
    private let source: Source
    /// Where the cuts come from, for sentences.
    private let origin: String

    /// One rank, which has all.
    static var single: ExportMesh { ExportMesh(DeviceMesh.single, .none, "") }

    private init(_ mesh: DeviceMesh, _ source: Source, _ origin: String) {
        (self.mesh, self.source, self.origin) = (mesh, source, origin)
        rankCount = mesh.rankCount
    }

    init(_ mesh: DeviceMesh, rules: TensorMapRules, path: String) {
        self.init(mesh, .rules(rules), path)
    }

    /// - Parameters:
    ///   - mesh: nil takes the ranks of the other iteration as well.
    ///   - origin: what the iteration is called.
    init(_ mesh: DeviceMesh?, like metadata: MindFormersMetadata, origin: String) {
        self.mesh = mesh
        self.origin = origin
        source = .tensors(
            Dictionary(
                metadata.tensors.map { (ExactText($0.name), $0) }, uniquingKeysWith: { first, _ in first }))
        let ranks = metadata.tensors.lazy.compactMap { $0.layout?.ranks.max() }
        rankCount = mesh?.rankCount ?? (ranks.max() ?? 0) + 1
    }

    /// - Throws: `.usage`, naming the tensor, where nothing says how it is cut, or what does is of another tensor.
    func layout(of tensor: GatheredTensor, isOptimizer: Bool) throws(CairnError) -> MindFormersLayout {
        let names = isOptimizer ? Self.names(tensor) : [tensor.name]
        do throws(TensorFileError) {
            switch source {
            case .none: return try spread(tensor, [])
            case .rules(let rules):
                for name in names {
                    if let cuts = rules.cuts(name) { return try spread(tensor, cuts) }
                }
            case .tensors(let tensors):
                for name in names {
                    guard let other = tensors[ExactText(name)] else { continue }
                    guard let layout = other.layout else { return try spread(tensor, []) }
                    return mesh == nil ? layout : try spread(tensor, layout.cuts)
                }
            }
            // What has one element is everywhere: the optimizer's count of steps.
            if tensor.count == 1 { return try spread(tensor, []) }
        } catch {
            throw CairnError(error)
        }
        throw CairnError(
            .usage,
            "\(origin) does not say how the tensor \(tensor.name) is cut; pass --maps with a rule for it")
    }

    /// A tensor's name, and that of the parameter that it would be kept for by an optimizer: `adam_m.` and a parameter's name.
    private static func names(_ tensor: GatheredTensor) -> [String] {
        let base = tensor.name.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
        return base.count == 2 ? [tensor.name, String(base[1])] : [tensor.name]
    }

    /// - Parameter cuts: fewer than the tensor has axes cut the first ones.
    private func spread(_ tensor: GatheredTensor, _ cuts: [[String]]) throws(TensorFileError)
        -> MindFormersLayout
    {
        let rest = [[String]](repeating: [], count: max(0, tensor.shape.count - cuts.count))
        let mesh = if let mesh { mesh } else { try DeviceMesh([.init(name: "dp", size: rankCount)]) }
        return try mesh.layout(cuts: cuts + rest)
    }
}

extension DeviceMesh {
    /// One device.
    fileprivate static var single: DeviceMesh {
        do {
            return try DeviceMesh([.init(name: "dp", size: 1)])
        } catch {
            preconditionFailure("there may be one device: \(error)")
        }
    }
}
