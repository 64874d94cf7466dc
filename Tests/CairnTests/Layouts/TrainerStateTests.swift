import Cairn
import Platform
import Testing

struct TrainerStateTests {
    private static func state(_ text: String) throws -> TrainerState { try TrainerState([UInt8](text.utf8)) }

    private static let text = """
        {"best_global_step": 2, "best_metric": 0.25, "best_model_checkpoint": "/x/checkpoint-2", "epoch": 0.5,
        "global_step": 3, "log_history": [
          {"epoch": 0.1, "grad_norm": NaN, "learning_rate": 0.001, "loss": 4.5, "step": 1},
          {"epoch": 0.2, "eval_loss": 0.25, "eval_runtime": 2.5, "eval_name": "x", "step": 2},
          {"epoch": 0.2, "loss": Infinity, "step": 2, "total_flos": 3e9, "train_loss": 1},
          {"epoch": 0.3, "loss": 3, "step": 3}, {"epoch": 0.3, "loss": 2, "step": 3},
          {"epoch": 0.4, "eval_loss": 0.125, "loss": 1, "step": 4}, {"loss": 7}, 5, {"loss": 8, "step": -1}]}
        """

    @Test("takes the last value of each metric up to the checkpoint's own step")
    func metrics() throws {
        let state = try Self.state(Self.text)
        #expect(state.globalStep == 3)
        #expect(state.metrics["grad_norm"]?.isNaN == true)
        var rest = state.metrics
        rest["grad_norm"] = nil
        #expect(
            rest == ["epoch": 0.3, "learning_rate": 0.001, "loss": 2, "eval_loss": 0.25, "eval_runtime": 2.5])
    }

    @Test("tells which metric is the best one where the log says so")
    func best() throws {
        let state = try Self.state(Self.text)
        #expect(state.bestMetric == 0.25)
        #expect(state.bestGlobalStep == 2)
        #expect(state.bestMetricName == "eval_loss")
        let older = try Self.state(
            Self.text.replacing("\"best_global_step\": 2", with: "\"best_global_step\": null"))
        #expect(older.bestGlobalStep == 2)
        let twins = try Self.state(Self.text.replacing("\"eval_runtime\": 2.5", with: "\"eval_f1\": 0.25"))
        #expect(twins.bestMetric == 0.25 && twins.bestMetricName == nil)
    }

    @Test("reads what the real library wrote")
    func real() throws {
        let state = try Self.state(
            """
            {"best_global_step": null, "best_metric": null, "best_model_checkpoint": null, "global_step": 2,
            "log_history": [{"epoch": 0.0625, "grad_norm": 0.2447935938835144, "learning_rate": 0.001,
            "loss": 4.847132682800293, "step": 1}, {"epoch": 0.125, "grad_norm": 0.21590346097946167,
            "learning_rate": 0.0005, "loss": 4.8388752937316895, "step": 2}], "trial_name": null}
            """)
        #expect(state.globalStep == 2)
        #expect(state.metrics["loss"] == 4.8388752937316895)
        #expect(state.metrics.count == 4)
        #expect(state.bestMetric == nil && state.bestGlobalStep == nil && state.bestMetricName == nil)
    }

    @Test("makes do with what is missing")
    func missing() throws {
        let state = try Self.state("{}")
        #expect(state.globalStep == nil && state.metrics.isEmpty && state.bestMetric == nil)
        #expect(try Self.state(#"{"log_history": [{"step": 9, "loss": 1}]}"#).metrics == ["loss": 1])
        #expect(try Self.state(#"{"log_history": {}, "best_metric": NaN}"#).bestMetricName == nil)
    }

    @Test(
        "refuses what is no trainer's state",
        arguments: [
            "", "{", "[]", "null", #"{"global_step": -1}"#, #"{"global_step": "5"}"#,
            #"{"global_step": 1.5}"#,
            #"{"global_step": 9007199254740992}"#, #"{"global_step": NaN}"#,
            "{\"log_history\":[{\"step\":1,\"eval_e\u{301}\":1},{\"step\":2,\"eval_\u{E9}\":2}]}",
        ])
    func unsound(text: String) {
        let error = #expect(throws: CairnError.self) { try Self.state(text) }
        #expect(error?.code == .usage)
    }
}
