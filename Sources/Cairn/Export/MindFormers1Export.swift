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
            // All of a rank goes into one file.
            var tensors = try slices.planned(mesh)
            for index in tensors.indices { tensors[index].kind = .model }
            let taken = Set(tensors.map(\.name))
            let numbers = Self.numbers(common, epoch, step).filter { !taken.contains($0.name) }
            let count = tensors.count
            tensors += try numbers.map { number in
                .init(
                    name: number.name, dtype: number.dtype, shape: number.name == "global_step" ? [1] : [],
                    layout: try MindFormersLayout.everywhere(
                        mesh.rankCount, axes: number.name == "global_step" ? 1 : 0),
                    kind: .model)
            }
            for file in try MindFormersPlan(tensors, rankCount: mesh.rankCount).files {
                let name = MindFormers1FileName(prefix: prefix, rank: file.rank, epoch: epoch, step: step)
                let pieces: [OutputFile.Part] = try file.pieces.map { piece in
                    piece.tensor < count
                        ? .gather(try slices.bytes(of: piece)) : .literal(numbers[piece.tensor - count].bytes)
                }
                add("rank_\(file.rank)/\(name.text)", [.literal(file.header)] + pieces)
                let meta = MindFormers1Meta(epoch: epoch, step: step, file: name.text)
                add("rank_\(file.rank)/\(MindFormers1Meta.fileName)", [.literal(meta.serialized())])
            }
        } catch let error as WritingError {
            throw CairnError(error)
        }
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
    /// Of what each rank has all of.
    fileprivate static func everywhere(_ rankCount: Int, axes: Int) throws(WritingError) -> MindFormersLayout
    {
        try MindFormersLayout(
            deviceMatrix: [rankCount], tensorMap: .init(repeating: .none, count: axes), axisNames: ["dp"],
            ranks: Array(0..<rankCount))
    }
}
