/// `common.json` of MindSpore Transformers 2.0: how far the training has come.
///
/// The library refuses members that it doesn't know, so none is ever added.
public struct MindFormersCommon: Sendable, Equatable {
    public static let fileName = "common.json"

    public var epoch: Int?
    /// Steps in the epoch; in PyNative mode the steps that the training is to have.
    public var step: Int?
    /// Steps in all epochs.
    public var globalStep: Int?
    public var lossScale: Double?
    public var globalBatchSize: Int?
    /// Whether there is a member for `consumedSamples`, as 2.1 of the library has it and 1.9 refuses it.
    public var hasConsumedSamples: Bool
    public var consumedSamples: Int?
    /// 0: healthy, 1: not, nil: unknown.
    public var status: Int?

    public init(
        epoch: Int? = nil, step: Int? = nil, globalStep: Int? = nil, lossScale: Double? = nil,
        globalBatchSize: Int? = nil, hasConsumedSamples: Bool = false, consumedSamples: Int? = nil,
        status: Int? = nil
    ) {
        self.epoch = epoch
        self.step = step
        self.globalStep = globalStep
        self.lossScale = lossScale
        self.globalBatchSize = globalBatchSize
        self.hasConsumedSamples = hasConsumedSamples
        self.consumedSamples = consumedSamples
        self.status = status
    }

    /// - Throws: `MindFormersError` where it is no object, or a member is neither null nor a number of its kind.
    public init(parsing bytes: [UInt8]) throws(MindFormersError) {
        guard bytes.count <= 1 << 20 else { throw MindFormersError("The file common.json has over 1 MiB.") }
        let json: JSON
        do {
            json = try JSON(parsing: bytes, allowNonFinite: true)
        } catch {
            throw MindFormersError("The file common.json is not valid: \(error).")
        }
        guard json.members != nil else { throw MindFormersError("The file common.json is no object.") }
        func integer(_ name: String) throws(MindFormersError) -> Int? {
            guard let value = json[name], !value.isNull else { return nil }
            guard case .integer(let integer) = value else {
                throw MindFormersError("The member \(name) of common.json is no integer.")
            }
            return Int(integer)
        }
        epoch = try integer("epoch_num")
        step = try integer("step_num")
        globalStep = try integer("global_step")
        globalBatchSize = try integer("global_batch_size")
        hasConsumedSamples = json["consumed_samples"] != nil
        consumedSamples = try integer("consumed_samples")
        status = try integer("ckpt_status")
        if let scale = json["loss_scale"], !scale.isNull {
            guard let scale = scale.double else {
                throw MindFormersError("The member loss_scale of common.json is no number.")
            }
            lossScale = scale
        }
    }

    /// The file as the library writes it, without a newline at its end.
    public func serialized() -> [UInt8] {
        func json(_ integer: Int?) -> JSON { integer.map { JSON($0) } ?? .null }
        var members: [JSON.Member] = [
            .init("epoch_num", json(epoch)), .init("step_num", json(step)),
            .init("global_step", json(globalStep)),
            .init("loss_scale", lossScale.map { JSON($0) } ?? .null),
            .init("global_batch_size", json(globalBatchSize)),
        ]
        if hasConsumedSamples { members.append(.init("consumed_samples", json(consumedSamples))) }
        members.append(.init("ckpt_status", json(status)))
        return JSON.object(members).serialized(.init(indent: 4, allowNonFinite: true))
    }
}
