/// What people call the dtypes of weights.
enum Precision {
    static func name(_ dtype: String?) -> String? {
        switch dtype {
        case "F32": "fp32"
        case "F16": "fp16"
        case "BF16": "bf16"
        default: nil
        }
    }
}
