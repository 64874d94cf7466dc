internal import Platform
internal import TensorFormats

/// An export as MindSpore Transformers 1.0 loads it: a file in the folder of each rank, what it says of the last one, and how
/// tensors are spread over several ranks.
struct MindFormers1Export {
    private(set) var plan = ExportPlan()
    /// What the library takes where nobody says otherwise. (mindformers, `core/callback/callback.py:CheckpointMonitor`)
    private static let prefix = "CKP"

    /// A number of the training, which is kept as a tensor.
    private struct Number {
        var name: String
        var dtype: DType
        var bytes: [UInt8]
    }

    init(_ subject: ExportSubject, mesh: ExportMesh) throws {
        let slices = try MindSporeSlices(subject)
        let common = try MindSporeProgress(subject).common
        let prefix = try MindSporeSlices.checkedPrefix(subject.options.prefix ?? Self.prefix)
        let (epoch, step) = (max(1, common.epoch ?? 1), common.step ?? Int(subject.info.step))
        plan.warnings = slices.tensors.warnings
        do {
            // All of a rank goes into one file. What has no axes is no part of strategies, in which MindSpore can't read it.
            var tensors = try slices.planned(mesh)
            for index in tensors.indices {
                tensors[index].kind = .model
                tensors[index].isEverywhere = tensors[index].shape.isEmpty
            }
            let taken = Set(tensors.map(\.name))
            let numbers = Self.numbers(common, epoch, step).filter { !taken.contains($0.name) }
            let count = tensors.count
            tensors += try numbers.map { number in
                .init(
                    name: number.name, dtype: number.dtype, shape: number.name == "global_step" ? [1] : [],
                    layout: try MindFormersLayout.everywhere(
                        mesh.rankCount, axes: number.name == "global_step" ? 1 : 0),
                    kind: .model, isEverywhere: true)
            }
            // With one rank there is nothing to be removed, and the library refuses to load it as if there were.
            let removes = subject.options.removesRedundancy && mesh.rankCount > 1
            let files = try MindFormersPlan(
                tensors, rankCount: mesh.rankCount, replicas: removes ? .dealt : .kept,
                metadata: [("format", "ms"), ("remove_redundancy", removes ? "True" : "False")]
            ).files
            for file in files {
                let name = MindFormers1FileName(prefix: prefix, rank: file.rank, epoch: epoch, step: step)
                let pieces: [OutputFile.Part] = try file.pieces.map { piece in
                    piece.tensor < count
                        ? try slices.bytes(of: piece) : .literal(numbers[piece.tensor - count].bytes)
                }
                add("rank_\(file.rank)/\(name.text)", [.literal(file.header)] + pieces)
                let meta = MindFormers1Meta(epoch: epoch, step: step, file: name.text)
                add("rank_\(file.rank)/\(MindFormers1Meta.fileName)", [.literal(meta.serialized())])
            }
            // With one rank there is nothing to be told.
            if mesh.rankCount > 1 {
                try Self.checkRanks(tensors, mesh.rankCount)
                let strategy = try Self.strategy(tensors.filter { !$0.isEverywhere }, removes).serialized()
                for rank in 0..<mesh.rankCount {
                    add("strategy/ckpt_strategy_rank_\(rank).ckpt", [.literal(strategy)])
                }
            }
        } catch let error as TensorFileError {
            throw CairnError(error)
        }
    }

    /// That each tensor is on all ranks: those of pipeline stages would need strategies of their own.
    private static func checkRanks(_ tensors: [MindFormersPlan.Tensor], _ count: Int) throws(CairnError) {
        let all = Array(0..<count)
        for tensor in tensors where tensor.layout.ranks != all {
            throw CairnError(
                .usage,
                "the tensor \(tensor.name) is on some of the ranks alone, as in pipeline stages, which mindformers1 is not "
                    + "written for; pass --mesh with the devices, such as --mesh dp=2,tp=4")
        }
    }

    /// How tensors lie on the devices, which is the same for all ranks.
    private static func strategy(
        _ tensors: [MindFormersPlan.Tensor], _ removesRedundancy: Bool
    ) throws -> ParallelStrategy {
        var parameters: [ParallelStrategy.Parameter] = []
        for tensor in tensors {
            let (matrix, map) = tensor.layout.merged
            var layout = ParallelStrategy.Layout()
            layout.deviceMatrix = matrix.map { UInt32($0) }
            layout.tensorMap = map.map { $0.isEmpty ? [-1] : $0.map { Int32($0) } }
            guard !removesRedundancy || layout.tensorMap.allSatisfy({ $0.count == 1 }) else {
                throw CairnError(
                    .usage,
                    "an axis of the tensor \(tensor.name) is cut by axes of the mesh that don't stand side by side, from which "
                        + "MindSpore can't tell its replicas; leave out --remove-redundancy, or name the axes in another order"
                )
            }
            layout.indicesOffset = tensor.shape.map { _ in 0 }
            layout.splitShape = try tensor.layout.sliceShape(of: tensor.shape, name: tensor.name).map {
                Int64($0)
            }
            parameters.append(.init(name: tensor.name, layout: layout))
        }
        return ParallelStrategy(stage: 0, parameters: parameters)
    }

    private mutating func add(_ path: String, _ parts: [OutputFile.Part]) {
        plan.written.append(OutputFile(path: [UInt8](path.utf8), parts: parts))
    }

    private static func numbers(_ common: MindFormersCommon, _ epoch: Int, _ step: Int) -> [Number] {
        func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
            withUnsafeBytes(of: value.littleEndian) { [UInt8]($0) }
        }
        var numbers = [
            Number(name: "epoch_num", dtype: .i64, bytes: bytes(Int64(epoch))),
            Number(name: "step_num", dtype: .i64, bytes: bytes(Int64(step))),
            Number(
                name: "global_step", dtype: .i32, bytes: bytes(Int32(clamping: common.globalStep ?? step))),
        ]
        if let scale = common.lossScale {
            numbers.append(Number(name: "loss_scale", dtype: .f32, bytes: bytes(Float(scale).bitPattern)))
        }
        return numbers
    }
}

extension MindFormersLayout {
    /// The device matrix and the map with one axis for several that cut an axis of the tensor together, where these stand side by side,
    /// the coarsest first: one axis is all that some functions of MindSpore read.
    fileprivate var merged: (matrix: [Int], map: [[Int]]) {
        // Counted from the right, as cuts are.
        var continued: Set<Int> = []
        for cut in tensorMap where zip(cut.axes, cut.axes.dropFirst()).allSatisfy({ $0 == $1 + 1 }) {
            continued.formUnion(cut.axes.dropFirst())
        }
        var (matrix, places): ([Int], [Int]) = ([], [])
        for (index, size) in deviceMatrix.enumerated() {
            if continued.contains(deviceMatrix.count - 1 - index) {
                matrix[matrix.count - 1] *= size
            } else {
                matrix.append(size)
            }
            places.append(matrix.count - 1)
        }
        let map = tensorMap.map { cut in
            cut.axes.filter { !continued.contains($0) }.map {
                matrix.count - 1 - places[deviceMatrix.count - 1 - $0]
            }
        }
        return (matrix, map)
    }

    /// Of what each rank has all of.
    fileprivate static func everywhere(_ rankCount: Int, axes: Int) throws(TensorFileError)
        -> MindFormersLayout
    {
        try MindFormersLayout(
            deviceMatrix: [rankCount], tensorMap: .init(repeating: .none, count: axes), axisNames: ["dp"],
            ranks: Array(0..<rankCount))
    }
}
